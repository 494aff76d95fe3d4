"""`heatmap`, `compare`, `export-embeddings`, `report`: where encoders look, and what they have learned."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

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
    Seed,
    check_run,
    command,
)
from probekit.cli.completion import runs_like
from probekit.cli.measured import with_measurements
from probekit.cli.probe import show_result
from probekit.output.console import console, errors, print_json
from probekit.weights import Weights

if TYPE_CHECKING:
    from probekit.heatmaps.measurement import Heatmap


@command(MEASURING, "probekit heatmap", "probekit heatmap RUN --n 100")
@with_measurements("heatmap")
def heatmap(
    run: RunName = None,
    data: RunData = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    *,
    asked: "list[Heatmap]",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show where the encoder looks, and measure whether that is where the evidence is."""
    check_run(run)
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.heatmaps.run import heatmap_run
    from probekit.restore.opened import open_encoder

    out = errors if as_json else console
    found = run_or_newest(run, RUNS, out)
    opened = open_encoder(found, Weights.parse(checkpoint, pool), choose_device(device))
    result = heatmap_run(opened, asked[0], data=data, seed=seed, console=out)
    if as_json:
        print_json(result)
        return
    show_result(result)
    console.print(f"next: probekit report {quote(found.argument)}   (what the scores mean: docs/heatmaps.md)")


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
    from probekit.report.page import run_compare

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
    form: Annotated[
        Literal["html", "md"] | None, typer.Option("--format", help="The language of the page; default: html.")
    ] = None,
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
    from probekit.report.page import run_report

    if as_json and form is not None:
        raise ValueError(f"expected one of --format {form} and --json, found both; leave one out")
    written = "json" if as_json else form or "html"
    to_stdout = out is None and written != "html"
    say = errors if to_stdout or as_json else console
    text = run_report(run or [], out=out, form=written, runs=RUNS, reports=REPORTS, console=say)
    if as_json and out is not None:
        text = out.read_text()
    if text is not None:
        print(text, end="")
