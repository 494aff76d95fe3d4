"""`exam`: what encoders read of drawings whose answers are known."""

from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.cli import shared
from probekit.cli.measured import with_measurements
from probekit.cli.measuring import (
    AllowDownload,
    AllowMissing,
    Normalise,
    Outsider,
    Settings,
    WeightsFile,
    outside_of,
)
from probekit.output.console import console, errors, print_json
from probekit.results import show_results
from probekit.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.exams.measurement import Exam


@shared.command(
    shared.MEASURING,
    "probekit exam",
    "probekit exam conrec-rect-tri simclr-rect-tri",
    "probekit exam --encoder timm:resnet18 --weights FILE",
    "probekit exam --selftest",
)
@with_measurements("exam")
def exam(
    run: shared.RunNames = None,
    checkpoint: shared.Checkpoint = "last",
    pool: shared.Pool = None,
    *,
    asked: "list[Exam]",
    encoder: Outsider = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    allow_download: AllowDownload = False,
    normalise: Normalise = "auto",
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Examine observers whose answers are known; exit 1 if one is off.")
    ] = False,
    device: shared.Device = "auto",
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Give an encoder an eye test: the smallest details that it reads, in pixels, and the wholes that it sees.

    Layer by layer, beside observers whose answers are known.
    """
    out = errors if as_json else console
    if selftest:
        others = (run, encoder, weights, allow_missing, allow_download, settings, pool)
        if any(others) or asked != [type(asked[0])()]:
            raise ValueError("expected --selftest alone, found it with others; type: probekit exam --selftest")
        _selftest(as_json)
        return
    for name in run or (None,) * (encoder is None):
        shared.check_run(name)
    from probekit.exams.run import exam_runs

    told = exam_runs(
        run or [],
        outside_of(encoder, weights, normalise, 0, allow_missing, settings, allow_download),
        asked[0],
        weights=Weights.parse(checkpoint, pool),
        device=device,
        runs=shared.RUNS,
        reports=shared.REPORTS,
        console=out,
    )
    if as_json:
        print_json(told["results"][0] if len(told["results"]) == 1 else told)
        return
    if len(told["results"]) == 1:
        show_results(told["results"], console)
    else:
        _show_together(told)
    runs = " ".join(map(quote, told["arguments"]))
    console.print(f"next: probekit report {runs}   (what the numbers mean: docs/exam.md)")


def _show_together(told: "Mapping[str, Any]") -> None:
    """The tables of several encoders, each table once for all; what stands out of each; how they differ."""
    from probekit.exams.compared import differences_table, together
    from probekit.measurement import read_result
    from probekit.output.terminal import show_table

    results = told["results"]
    reader = read_result(results[0])
    console.print(f"{reader.title}. {results[0]['how']}")
    tables = reader.tables(together(results)) + [differences_table(told["differences"])] * bool(told["differences"])
    for table in tables:
        if not table.folded:
            show_table(table, console, title=table.title)
            console.print(table.how)
    for result in results:
        console.print(f"{result['run']}:")
        for line in reader.sentences(result):
            console.print(f"  {line}")
    console.print()


def _selftest(as_json: bool) -> None:
    from probekit.exams.selftest import run_selftest

    rows = run_selftest(0, errors if as_json else console)
    if as_json:
        print_json({"selftest": rows})
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)
