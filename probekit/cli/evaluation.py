"""`compare`, `export-embeddings`, `report`: what encoders have learned."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.app import REPORTS, RUNS, Device, Json, Overwrite, Pool, app
from probekit.output.console import console, errors, print_json


@app.command()
def compare(
    run: Annotated[list[str], typer.Argument(help="Two or more: a run's name or path, or RUN@POOL, e.g. RUN@branch.")],
    data: Annotated[Path | None, typer.Option("--data", help="Only results on this dataset file.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help='Only results of one protocol: val, paper, knn, "retrieval, rank-1", ...')
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Only results of one checkpoint.")] = None,
    as_json: Json = False,
) -> None:
    """Test which encoders differ: paired by test image, and by seed where methods have several."""
    from probekit.report.side_by_side import run_compare

    result = run_compare(
        run,
        data=data,
        protocol=protocol,
        checkpoint=checkpoint,
        runs=RUNS,
        console=errors if as_json else console,
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@app.command("export-embeddings")
def export_embeddings(
    run: Annotated[str | None, typer.Argument(help="A run; default: the newest.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A dataset file; default: the run's own.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="NAME.npz or NAME.h5; default: runs/RUN/embeddings-CHECKPOINT.npz.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write embeddings, labels and factors of every split to one file."""
    from probekit.restore.export import run_export
    from probekit.weights import Weights

    run_export(
        run,
        data=data,
        out=out,
        weights=Weights.parse(checkpoint, pool),
        device=device,
        runs=RUNS,
        overwrite=overwrite,
        console=console,
    )


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
    from probekit.report.write import run_report

    to_stdout = out is None and form != "html"
    say = errors if to_stdout else console
    text = run_report(run or [], out=out, form=form, runs=RUNS, reports=REPORTS, console=say)
    if text is not None:
        print(text, end="")
