"""`probe` and `report`: what a run's encoder has learned."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.app import REPORTS, RUNS, Device, Json, Seed, app
from probekit.output import console, errors, print_json


@app.command()
def probe(
    run: Annotated[str | None, typer.Argument(help="A run; default: the newest.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A dataset file; default: the run's own.")] = None,
    protocol: Annotated[str, typer.Option(help="val: standardised, C chosen on validation; paper: C=1.")] = "val",
    checkpoint: Annotated[str, typer.Option(help="last, best_val or best_test.")] = "last",
    floors: Annotated[bool, typer.Option("--floors/--no-floors", help="Probe the floors too.")] = True,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Report how well a linear probe separates the classes, next to floors that need no learning."""
    from probekit.commands.probe import run_probe

    result = run_probe(
        run,
        data=data,
        protocol=protocol,
        checkpoint=checkpoint,
        floors=floors,
        seed=seed,
        device=device,
        runs=RUNS,
        console=errors if as_json else console,
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@app.command()
def report(
    run: Annotated[list[str] | None, typer.Argument(help="Runs, by name or path; default: the newest.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: runs/RUN/report.html, reports/RUN+RUN.html for several, md and json: stdout."
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
) -> None:
    """Write one page of all that runs hold: config, tables, curves, pictures, and how several differ."""
    from probekit.commands.report import run_report

    to_stdout = out is None and form != "html"
    say = errors if to_stdout else console
    text = run_report(run or [], out=out, form=form, runs=RUNS, reports=REPORTS, console=say)
    if text is not None:
        print(text, end="")
