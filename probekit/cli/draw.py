"""`draw`: pictures of embeddings and of features of patches."""

from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from probekit.cli import shared
from probekit.cli.measuring import AllowDownload, AllowMissing, Normalise, Outsider, Settings, WeightsFile, outside_of
from probekit.draw.asked import KINDS, Asked, read_places
from probekit.output.console import console, errors, print_json
from probekit.output.hints import as_typed
from probekit.weights import Weights

MOST = 2000  # images, unless --n says otherwise
MEANINGS = "; ".join(f"{name}: {about}" for name, about in KINDS.items())
Kind = Annotated[
    Literal["neighbours", "tsne", "umap", "pca", "matches"], typer.Option("--as", help=f"What to draw. {MEANINGS}.")
]
N = Annotated[int, typer.Option(min=2, help="How many images to embed, evenly spaced over the test split.")]
K = Annotated[int | None, typer.Option(min=1, max=50, help="How many neighbours; default: 5, of a plane 10.")]
By = Annotated[str | None, typer.Option(metavar="FACTOR", help="What colours points: label, or a factor.")]
Images = Annotated[int | None, typer.Option(min=1, max=12, help="How many images to show; default: 6, of pca 8.")]
Of = Annotated[str | None, typer.Option(metavar="I,J,...", help="Which images to show, by their places in the split.")]
Out = Annotated[
    Path | None, shared.output(help="The picture, NAME.png, .svg or .pdf; default: a new one of the run's figures.")
]


@shared.command(
    shared.MEASURING,
    "probekit draw",
    "probekit draw RUN --as tsne --by corner",
    "probekit draw --encoder timm:vit_small_patch16_224 --weights FILE --as pca",
    "probekit draw RUN --as matches --of 0,1 --out pair.png",
)
def draw(
    run: shared.RunName = None,
    kind: Kind = "neighbours",
    data: shared.RunData = None,
    n: N = MOST,
    k: K = None,
    by: By = None,
    images: Images = None,
    of: Of = None,
    checkpoint: shared.Checkpoint = "last",
    pool: shared.Pool = None,
    encoder: Outsider = None,
    weights: WeightsFile = None,
    allow_missing: AllowMissing = False,
    settings: Settings = (),  # type: ignore[assignment]
    allow_download: AllowDownload = False,
    normalise: Normalise = "auto",
    seed: shared.Seed = 0,
    device: shared.Device = "auto",
    out: Out = None,
    overwrite: shared.Overwrite = False,
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Draw what an encoder makes of images, beside random weights, with numbers that say what a picture is worth."""
    shared.check_run(None if encoder else run)
    asked = Asked(kind, n=n, k=k, by=by, images=images, of=read_places(of), seed=seed)
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.draw.run import check_data, check_out, draw_run
    from probekit.restore.load import adopt
    from probekit.restore.opened import open_encoder

    check_out(out, overwrite=overwrite)
    say, measured = errors if as_json else console, Weights.parse(checkpoint, pool)
    outside = outside_of(encoder, weights, normalise, seed, allow_missing, settings, allow_download)
    if outside is not None:
        check = partial(check_data, asked)
        about: dict[str, Any] = {"measured": measured, "device": device, "console": say}
        run, data = adopt(outside, check, run=run, data=data, runs=shared.RUNS, data_folder=shared.DATA, **about), None
    opened = open_encoder(run_or_newest(run, shared.RUNS, say), measured, choose_device(device))
    result = draw_run(opened, asked, data=data, out=out, overwrite=overwrite, console=say)
    if as_json:
        print_json(result)
        return
    other, name = next(name for name in KINDS if name != kind), quote(opened.run.argument)
    given = as_typed(opened.weights, data, n=None if n == MOST else n, seed=seed)
    console.print(f"next: probekit draw {name}{given} --as {other}   (what the numbers mean: docs/draw.md)")
