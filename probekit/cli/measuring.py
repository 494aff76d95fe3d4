"""`probe`, `heatmap`, `compare`, `report`: what encoders have learned, and where they look."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probekit.cli import shared
from probekit.cli.measured import with_measurements
from probekit.measurement import read_result
from probekit.output.console import console, errors, print_json
from probekit.output.hints import as_typed
from probekit.results import show_results
from probekit.weights import ALL_LAYERS, ATTENTIVE, LAST, Weights

if TYPE_CHECKING:
    from probekit.h5 import CentreCrop
    from probekit.heatmaps.measurement import Heatmap
    from probekit.probes.measurements.base import Probe
    from probekit.restore.outside import Outside
    from probekit.run import Run

AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="For --encoder: accept incomplete weights; the rest stays random, and is marked so."
    ),
]
Outsider = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="An outside encoder instead of a run: timm:NAME, hf:FOLDER, onnx:FILE, py:MODULE:FUNCTION, ... "
        "(docs/encoders.md).",
    ),
]
AllowDownload = Annotated[
    bool,
    typer.Option("--allow-download", help="For --encoder hf:ORG/NAME: let huggingface_hub fetch what is not here."),
]
WeightsFile = Annotated[
    Path | None, typer.Option(metavar="FILE[:KEY]", help="For --encoder: a checkpoint of any project; default: random.")
]
Normalise = Annotated[
    str, typer.Option(help="For --encoder: imagenet, swav, timm, none, or auto: what weights expect.")
]
TestCrop = Annotated[
    str | None,
    typer.Option(
        metavar="RESIZE:SIDE",
        help="How photographs are seen: the shorter side RESIZE px, of it the middle SIDE px; default: the file's.",
    ),
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Runs; default: the newest that has finished. Of several one picture has the maps of all.",
        autocompletion=shared.runs_like,
    ),
]
Together = Annotated[
    Path | None,
    shared.output(help="The picture of several runs, NAME.png, .svg or .pdf; default: reports/maps-RUN+RUN.png."),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="For --encoder: change one setting; may be repeated.")
]


@shared.command(
    shared.MEASURING,
    "probekit probe",
    "probekit probe RUN --knn --fractions 1,10,100",
    "probekit probe RUN --layer all --pool cls",
)
@with_measurements("probe")
def probe(
    run: shared.RunName = None,
    data: shared.RunData = None,
    protocol: Annotated[
        Literal["tuned", "fixed"],
        typer.Option(help="How C is found: tuned (standardised, chosen on validation) or fixed (as they are, C = 1)."),
    ] = "tuned",
    checkpoint: shared.Checkpoint = "last",
    pool: shared.TrainedPool = None,
    layer: shared.LayerOrAll = None,
    baselines: Annotated[bool, typer.Option(help="Measure the baselines beside the encoder.")] = True,
    test_crop: TestCrop = None,
    *,
    asked: "Sequence[Probe]",
    encoder: Outsider = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    allow_download: AllowDownload = False,
    normalise: Normalise = "auto",
    seed: shared.Seed = 0,
    device: shared.Device = "auto",
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Report how well a linear probe separates the classes, next to baselines that need no learning.

    Options add further measurements to it. Images with several labels have average precision in its place.
    """
    shared.check_run(None if encoder else run)
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.h5 import CentreCrop
    from probekit.probes.measure import conditions_for, probe_run
    from probekit.restore.load import adopt
    from probekit.restore.opened import open_encoder

    asked, pool, layer = asked_of_tokens(asked, pool, layer)
    out, measured = errors if as_json else console, Weights.parse(checkpoint, pool, layer)
    outside = outside_of(encoder, weights, normalise, seed, allow_missing, settings, allow_download)
    if outside is not None:
        check = partial(conditions_for, typed=asked, protocol=protocol, seed=seed, device=device, console=out)
        about: dict[str, Any] = {"measured": measured, "device": device, "console": out}
        run, data = adopt(outside, check, run=run, data=data, runs=shared.RUNS, data_folder=shared.DATA, **about), None
    opened = open_encoder(run_or_newest(run, shared.RUNS, out), measured, choose_device(device))
    crop = None if test_crop is None else CentreCrop.parse(test_crop)
    how: dict[str, Any] = {"protocol": protocol, "baselines": baselines, "seed": seed, "test_crop": crop}
    results = probe_run(opened, asked, data=data, console=out, **how)
    if as_json:
        print_json(results)
    else:
        show_results(results.values(), console)
        _next(opened.run, protocol, opened.weights, data=data, seed=seed, test_crop=crop)


def asked_of_tokens(
    asked: "Sequence[Probe]", pool: str | None, layer: str | None
) -> "tuple[list[Probe], str | None, str | None]":
    """What is asked for with the measurements that --pool attentive and --layer all are; the pool and the layer."""
    from probekit.probes.measurements.attentive import Attentive
    from probekit.probes.measurements.depth import Depth

    found = list(asked)
    if pool == ATTENTIVE:
        pool, found = None, found if any(isinstance(each, Attentive) for each in found) else [*found, Attentive()]
    if layer == ALL_LAYERS:
        Weights(LAST.checkpoint, pool, layer)  # refuses poolings that are not of every layer
        layer, found = None, [*found, Depth()]
    return found, pool, layer


def one_layer(checkpoint: str, pool: str | None, layer: str | None) -> Weights:
    """The weights that were typed, of one layer; a ValueError for all of them."""
    if layer == ALL_LAYERS:
        raise ValueError("expected one layer, found all; type: --layer NAME, or probekit probe RUN --layer all")
    return Weights.parse(checkpoint, pool, layer)


def outside_of(encoder: str | None, weights: Path | None, normalise: str, *more: Any) -> "Outside | None":
    """The encoder from elsewhere that was typed, or None; refuses what belongs to one without it."""
    from probekit.data.locate import run_named
    from probekit.restore.kinds import is_outside
    from probekit.restore.outside import Outside

    if encoder is not None:
        if not is_outside(encoder) and run_named(encoder, shared.RUNS) is not None:
            raise ValueError(
                f"expected an encoder from elsewhere with --encoder, found the run {encoder}; leave --encoder out"
            )
        return Outside(encoder, weights, normalise, *more)
    if weights is not None or normalise != "auto" or any(more[1:]):
        raise ValueError(
            "expected --encoder with --weights, --allow-missing, --allow-download, --set and --normalise; "
            "type: --encoder timm:resnet50, or py:..."
        )
    return None


@shared.command(
    shared.MEASURING,
    "probekit heatmap",
    "probekit heatmap RUN --n 100",
    "probekit heatmap RUN --layer all",
    "probekit heatmap RUN RUN --maps gradcam-loss",
)
@with_measurements("heatmap")
def heatmap(
    run: Runs = None,
    data: shared.RunData = None,
    checkpoint: shared.Checkpoint = "last",
    pool: shared.Pool = None,
    layer: shared.LayerOrAll = None,
    *,
    asked: "list[Heatmap]",
    full: Annotated[
        bool, typer.Option("--full", help="Print every table, too; without it a sentence for each class factor.")
    ] = False,
    out: Together = None,
    seed: shared.Seed = 0,
    device: shared.Device = "auto",
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Show where the encoder looks, and measure whether that is where the evidence is."""
    names: list[str | None] = [None] if run is None else [*run]
    for name in names:
        shared.check_run(name)
    if out is not None and len(names) < 2:
        raise ValueError("expected --out with several runs, found one, whose pictures are in its folder; leave it out")
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.heatmaps.over_depth import depth_run, refuse_unmasked
    from probekit.heatmaps.together import heatmap_runs
    from probekit.restore.opened import open_encoder

    say, every = errors if as_json else console, layer == ALL_LAYERS
    measured = Weights.parse(checkpoint, pool, layer)
    plain, place = replace(measured, layer=None) if every else measured, choose_device(device)
    opened = [open_encoder(run_or_newest(name, shared.RUNS, say), plain, place) for name in names]
    if every:
        refuse_unmasked(opened[0].dataset(data)[0])
    found = heatmap_runs(opened, asked[0], data=data, seed=seed, out=out, folder=shared.REPORTS, console=say)
    results = {each.run.argument: [result] for each, result in zip(opened, found, strict=True)}
    if every:
        for each in opened:
            results[each.run.argument].append(depth_run(each, asked[0], data=data, seed=seed, console=say))
    if as_json:
        told = {
            name: {read_result(each).name: each for each in own} if every else own[0] for name, own in results.items()
        }
        print_json(told if len(told) > 1 else next(iter(told.values())))
        return
    for name, own in results.items():
        if len(results) > 1:
            console.print(f"{name}:")
        show_results(own, console, full=full)
    named = " ".join(quote(each.run.argument) for each in opened)
    again = as_typed(replace(measured, layer=None, pool=None if measured.layer else measured.pool))
    console.print(
        f"next: probekit exam {named}{again}   or   probekit report {named}   (what the scores mean: docs/heatmaps.md)"
    )


@shared.command(shared.MEASURING, "probekit compare conrec-rect-tri simclr-rect-tri", "probekit compare A B@branch")
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Runs, RUN@POOL for one under a pooling, RUN:LAYER@POOL of a layer.",
            autocompletion=shared.runs_like,
        ),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Only results on this dataset file.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only results of one protocol: tuned, fixed, knn, retrieval, ...")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Only results of one checkpoint.")] = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Test which encoders differ: paired by test image, and by seed where methods have several."""
    from probekit.reports.page import run_compare

    say = errors if as_json else console
    result = run_compare(
        run, data=data, protocol=protocol, checkpoint=checkpoint, runs=shared.RUNS, console=say, quiet=as_json
    )
    if as_json:
        print_json(result)


@shared.command(
    shared.MEASURING, "probekit report", "probekit report RUN RUN --out page.html", "probekit report RUN --format md"
)
def report(
    run: shared.RunNames = None,
    form: Annotated[
        Literal["html", "md"] | None, typer.Option("--format", help="The language of the page; default: html.")
    ] = None,
    out: Annotated[
        Path | None,
        shared.output(
            help="The file; default: runs/RUN/report.html, or reports/RUN+RUN.html; Markdown and JSON are printed."
        ),
    ] = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write one page of all that runs hold: config, tables, curves, pictures, and how several differ."""
    from probekit.reports.page import run_report

    if as_json and form is not None:
        raise ValueError(f"expected one of --format {form} and --json, found both; leave one out")
    written = "json" if as_json else form or "html"
    to_stdout = out is None and written != "html"
    say = errors if to_stdout or as_json else console
    found = run_report(run or [], out=out, form=written, runs=shared.RUNS, reports=shared.REPORTS, console=say)
    if isinstance(found, str) or as_json:
        print(found if isinstance(found, str) else found.read_text(), end="")


def _next(
    run: "Run", protocol: str, measured: Weights, *, data: Path | None, seed: int, test_crop: "CentreCrop | None"
) -> None:
    """What to type next, of the same weights and the same images; maps are only of the file's own test crop."""
    from probekit.probes import PROTOCOLS

    other = next(known for known in PROTOCOLS if known != protocol)
    name, given = quote(run.argument), as_typed(measured, data, seed=seed, test_crop=test_crop)
    look = "" if test_crop else f"probekit heatmap {name}{given}   or   "
    console.print(f"next: {look}probekit probe {name}{given} --protocol {other}")
