"""`probekit probe`: what can be read from an encoder's features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probekit.cli.app import (
    DATA,
    MEASURING,
    RUNS,
    Device,
    Json,
    Pool,
    Quiet,
    RunData,
    RunName,
    Seed,
    check_run,
    command,
)
from probekit.cli.measured import with_measurements
from probekit.output.console import console, errors, print_json
from probekit.weights import LAST, Weights

if TYPE_CHECKING:
    from probekit.probe.measurements.base import Probe
    from probekit.restore.outside import Outside
    from probekit.run import Run


EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder", metavar="NAME", help="An outside encoder instead of a run: timm:NAME or py:MODULE:FUNCTION."
    ),
]
WeightsFile = Annotated[
    Path | None, typer.Option(metavar="FILE[:KEY]", help="For --encoder: a checkpoint of any project; default: random.")
]
Normalise = Annotated[
    str, typer.Option(help="For --encoder: imagenet, swav, timm, none, or auto: what weights expect.")
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="For --encoder: accept incomplete weights; the rest stays random, and is marked so."
    ),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="For --encoder: change one setting; may be repeated.")
]


@command(MEASURING, "probekit probe", "probekit probe RUN --knn --fractions 1,10,100")
@with_measurements("probe")
def probe(
    run: RunName = None,
    data: RunData = None,
    protocol: Annotated[
        Literal["tuned", "fixed"],
        typer.Option(help="How C is found: tuned (standardised, chosen on validation) or fixed (as they are, C = 1)."),
    ] = "tuned",
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    baselines: Annotated[bool, typer.Option(help="Measure the baselines beside the encoder.")] = True,
    *,
    asked: "Sequence[Probe]",
    encoder: EncoderName = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    normalise: Normalise = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Report how well a linear probe separates the classes, next to baselines that need no learning.

    Options add further measurements to it. Images with several labels have average precision in its place.
    """
    check_run(run if encoder is None else None)
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.probe.measure import conditions_for, probe_run
    from probekit.restore.opened import open_encoder

    out, measured = errors if as_json else console, Weights.parse(checkpoint, pool)
    outside = outside_of(encoder, weights, normalise, seed, allow_missing, settings)
    if outside is not None:
        check = partial(conditions_for, typed=asked, protocol=protocol, seed=seed, device=device, console=out)
        run, data = _adopted(outside, check, run=run, data=data, measured=measured, device=device, console=out), None
    opened = open_encoder(run_or_newest(run, RUNS, out), measured, choose_device(device))
    results = probe_run(opened, asked, data=data, protocol=protocol, baselines=baselines, seed=seed, console=out)
    if as_json:
        print_json(results)
        return
    for result in results.values():
        show_result(result)
    _next(opened.run, data, protocol, measured)


def outside_of(encoder: str | None, weights: Path | None, normalise: str, *more: Any) -> "Outside | None":
    """The encoder from elsewhere that was typed, or None; refuses what belongs to one without it."""
    from probekit.restore.outside import Outside

    if encoder is not None:
        return Outside(encoder, weights, normalise, *more)
    if weights is not None or normalise != "auto" or any(more[1:]):
        raise ValueError(
            "expected --encoder with --weights, --allow-missing, --set and --normalise; "
            "type: --encoder timm:resnet50, or py:..."
        )
    return None


def _adopted(outside: "Outside", check: Callable[..., object], **about: Any) -> str:
    """The run folder of an encoder from elsewhere."""
    from probekit.restore.adopted import adopt

    return adopt(outside, check, runs=RUNS, data_folder=DATA, **about)


def show_result(result: Mapping[str, Any]) -> None:
    """Prints the tables of a result, and what stands out in them."""
    from probekit.measurement import read_result
    from probekit.output.terminal import show_table

    reader = read_result(result)
    console.print(f"{reader.title}. {result['how']}")
    for table in reader.tables(result):
        if not table.folded:
            show_table(table, console, title=table.title if table.title != reader.title else "")
            if table.how:
                console.print(table.how)
    for line in [*reader.sentences(result), *result.get("certificate", ())]:
        console.print(line)
    console.print()


def _next(run: "Run", data: Path | None, protocol: str, measured: Weights) -> None:
    """What to type next, of the same weights and the same images."""
    from probekit.h5 import read_info
    from probekit.probe import PROTOCOLS
    from probekit.run import IMPORTED

    other = next(known for known in PROTOCOLS if known != protocol)
    name = quote(run.argument)
    on = "" if data is None else f" --data {quote(str(data))}"
    given = f"{on} --checkpoint {measured.checkpoint}" if measured.checkpoint != LAST.checkpoint else on
    given += "" if measured.pool is None else f" --pool {measured.pool}"
    drawn = run.read()["state"] == IMPORTED or measured != LAST  # `show` is of the last weights
    look = f"probekit heatmap {name}{given}" if drawn else f"probekit show {name}{on}"
    unseen = drawn and read_info(data or run.data()).multilabel  # maps explain one label an image
    again = f"probekit probe {name}{given} --protocol {other}"
    console.print(f"next: {again}" if unseen else f"next: {look}   or   {again}")
