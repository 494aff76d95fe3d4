"""`compare`, `export-embeddings`, `report`: what encoders have learned."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from probekit.cli.app import (
    MEASURING,
    OUTPUT,
    REPORTS,
    RUNS,
    Device,
    Json,
    Overwrite,
    Pool,
    Quiet,
    RunData,
    RunName,
    check_run,
    command,
)
from probekit.cli.completion import runs_like
from probekit.output.console import console, errors, print_json


@command(MEASURING, "probekit compare conrec-rect-tri simclr-rect-tri", "probekit compare A B@branch")
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...", help="Runs, or RUN@POOL for one under a pooling.", autocompletion=runs_like
        ),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Only results on this dataset file.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only results of one protocol: tuned, fixed, knn, retrieval, ...")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Only results of one checkpoint.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test which encoders differ: paired by test image, and by seed where methods have several."""
    from probekit.report.side_by_side import run_compare

    say = errors if as_json else console
    result = run_compare(
        run, data=data, protocol=protocol, checkpoint=checkpoint, runs=RUNS, console=say, quiet=as_json
    )
    if as_json:
        print_json(result)


@command(
    MEASURING,
    "probekit export-embeddings RUN --out embeddings.h5",
    "probekit export-embeddings RUN --pool norm",
    name="export-embeddings",
)
def export_embeddings(
    run: RunName = None,
    data: RunData = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="NAME.npz or NAME.h5; default: runs/RUN/embeddings-CHECKPOINT.npz.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write embeddings, labels and factors of every split to one file."""
    check_run(run)
    from probekit.restore.export import run_export
    from probekit.weights import Weights

    result = run_export(
        run,
        data=data,
        out=out,
        weights=Weights.parse(checkpoint, pool),
        device=device,
        runs=RUNS,
        overwrite=overwrite,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)


@command(MEASURING, "probekit report", "probekit report RUN RUN --out page.html", "probekit report RUN --format md")
def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs; default: the newest that has finished.", autocompletion=runs_like
        ),
    ] = None,
    form: Annotated[Literal["html", "md"], typer.Option("--format", help="The language of the page.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: runs/RUN/report.html, or reports/RUN+RUN.html; Markdown and JSON are printed.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one page of all that runs hold: config, tables, curves, pictures, and how several differ."""
    from probekit.report.write import run_report

    if as_json and form != "html":
        raise ValueError(f"expected one of --format {form} and --json, found both; leave one out")
    written = "json" if as_json else form
    to_stdout = out is None and written != "html"
    say = errors if to_stdout or as_json else console
    text = run_report(run or [], out=out, form=written, runs=RUNS, reports=REPORTS, console=say)
    if as_json and out is not None:
        text = out.read_text()
    if text is not None:
        print(text, end="")
