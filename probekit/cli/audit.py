"""`probekit audit`: what views leave of what decides the class, before anything is trained on them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from probekit.cli import shared
from probekit.output.console import console, errors, print_json


@shared.command(
    shared.MEASURING,
    "probekit audit",
    "probekit audit conrec --data data/landolt.h5",
    "probekit audit moco-v2 --set views.max_size=64",
)
def audit(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe (probekit list views) or a method, or all; default: all.", autocompletion=shared.recipes_like
        ),
    ] = None,
    data: shared.DataFile = None,
    n: Annotated[int, typer.Option(min=1, help="How many images, evenly spaced.")] = 500,
    views: Annotated[int, typer.Option(min=1, max=1000, help="Large views of each image, at least.")] = 2,
    preset: Annotated[
        Literal["paper", "quick"],
        typer.Option(help="Whose size of views: that of the images, or at most 64 px (quick)."),
    ] = "paper",
    settings: shared.Set = (),  # type: ignore[assignment]
    seed: shared.Seed = 0,
    out: Annotated[
        Path | None, shared.output(help="The picture, NAME.png, .svg or .pdf; default: beside the data.")
    ] = None,
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Say what views leave of each class factor, before anything is trained on them, and draw some.

    The same view is made of an image and of its counterfactual: how much of the evidence is kept, how often both become
    equal, how often the view shows another value.
    """
    from probekit.audit.asked import ALL
    from probekit.audit.start import run_audit
    from probekit.data.gen import dataset_or_default

    say = errors if as_json else console
    found = run_audit(
        recipe or ALL,
        lambda: dataset_or_default(data, shared.DATA, shared.RUNS, say),
        n=n,
        views=views,
        preset=preset,
        settings=settings,
        seed=seed,
        out=out,
        draws=out is not None or not as_json,
        console=say,
    )
    if as_json:
        print_json(found)
