"""`probekit exam`: what an encoder reads of drawings whose answers are known."""

from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.cli.app import MEASURING, REPORTS, RUNS, Device, Json, Pool, Quiet, check_run, command
from probekit.cli.completion import runs_like
from probekit.cli.measured import with_measurements
from probekit.cli.probe import (
    AllowMissing,
    EncoderName,
    Normalise,
    Settings,
    WeightsFile,
    outside_of,
    show_result,
)
from probekit.output.console import console, errors, print_json
from probekit.weights import Weights

if TYPE_CHECKING:
    from probekit.exam.measurement import Exam


@command(
    MEASURING,
    "probekit exam",
    "probekit exam conrec-rect-tri simclr-rect-tri",
    "probekit exam --encoder timm:resnet18 --weights FILE",
    "probekit exam --selftest",
)
@with_measurements("exam")
def exam(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs; default: the newest that has finished.", autocompletion=runs_like
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    *,
    asked: "list[Exam]",
    encoder: EncoderName = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    normalise: Normalise = "auto",
    selftest: Annotated[bool, typer.Option(help="Examine observers whose answers are known; exit 1 if one is off.")] = (
        False
    ),
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give an encoder an eye test: the smallest details that it reads, in pixels, and the wholes that it sees.

    Layer by layer, beside observers whose answers are known.
    """
    if not selftest and encoder is None:
        for name in run or (None,):
            check_run(name)
    out = errors if as_json else console
    if selftest:
        _selftest(out, as_json)
        return
    from probekit.exam.compared import differences_table
    from probekit.exam.run import exam_runs
    from probekit.output.terminal import show_table

    told = exam_runs(
        run or [],
        outside_of(encoder, weights, normalise, 0, allow_missing, settings),
        asked[0],
        weights=Weights.parse(checkpoint, pool),
        device=device,
        runs=RUNS,
        reports=REPORTS,
        console=out,
    )
    if as_json:
        print_json(told["results"][0] if len(told["results"]) == 1 else told)
        return
    for result in told["results"]:
        show_result(result)
    if told["differences"]:
        show_table(differences_table(told["differences"]), console, title="Differences")
    runs = " ".join(map(quote, told["arguments"]))
    console.print(f"next: probekit report {runs}   (what the numbers mean: docs/exam.md)")


def _selftest(out: Any, as_json: bool) -> None:
    from probekit.exam.selftest import run_selftest

    rows = run_selftest(0, out)
    if as_json:
        print_json({"selftest": rows})
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)
