"""`detect`: transfer to detection and segmentation."""

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
    from probekit.detection.measurement import Detection


@shared.command(
    shared.MEASURING,
    "probekit detect RUN --data data/scenes.h5 --preset quick",
    "probekit detect RUN --data data/voc.h5 --protocol xcorr",
    "probekit detect --encoder timm:resnet50 --weights FILE --data data/voc.h5",
)
@with_measurements("detect")
def detect(
    run: shared.RunName = None,
    data: shared.RunData = None,
    checkpoint: shared.Checkpoint = "last",
    baselines: Annotated[bool, typer.Option(help="Also train the same detectors on random weights.")] = True,
    *,
    asked: "list[Detection]",
    encoder: Outsider = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    allow_download: AllowDownload = False,
    normalise: Normalise = "auto",
    seed: shared.Seed = 0,
    device: shared.Device = "auto",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Fine-tune the backbone as a part of Faster R-CNN or Mask R-CNN, and report average precision of its boxes.

    Of masks, too, where objects have some. Typed again after an interruption, it goes on where it was.
    """
    shared.check_run(None if encoder else run)
    from probekit.data.locate import run_or_newest
    from probekit.detection.run import check_boxes, detect_run
    from probekit.device import choose_device
    from probekit.restore.load import adopt
    from probekit.restore.opened import open_encoder

    out = errors if as_json else console
    outside = outside_of(encoder, weights, normalise, seed, allow_missing, settings, allow_download)
    if outside is not None:
        about: dict[str, Any] = {"measured": Weights.parse(checkpoint), "device": device, "console": out}
        run = adopt(outside, check_boxes, run=run, data=data, runs=shared.RUNS, data_folder=shared.DATA, **about)
        data = None
    found = run_or_newest(run, shared.RUNS, out)
    opened = open_encoder(found, Weights.parse(checkpoint), choose_device(device))
    result = detect_run(opened, asked[0], data=data, baselines=baselines, seed=seed, console=out)
    if as_json:
        print_json(result)
        return
    show_results([result], console)
    console.print(f"next: probekit report {quote(found.argument)}   (what the scores mean: docs/detection.md)")
