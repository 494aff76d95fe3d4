"""`split`: a dataset file divided anew."""

from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli import shared
from probekit.cli.images import about
from probekit.output.console import console, errors, print_json


def _share(split: str) -> Any:
    told = f"Share of the images that become {split}, of each class; at least one of each."
    return typer.Option(min=0, max=0.9, callback=shared.finite, help=told)


@shared.command(
    shared.IMAGES,
    "probekit split data/pictures.h5 --val-fraction 0.1",
    "probekit split data/scans.h5 --join --test-fraction 0.2 --group patient --out data/by-patient.h5",
    "probekit split data/photos.h5 --join --test-fraction 0.2 --group duplicates",
)
def split(
    file: Annotated[Path, typer.Argument(metavar="DATA", help="A dataset.", autocompletion=shared.datasets_like)],
    val_fraction: Annotated[float, _share("val")] = 0.0,
    test_fraction: Annotated[float, _share("test")] = 0.0,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Never divide what has one value of this factor; or duplicates."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Divide the splits that there are anew, as one.")] = False,
    seed: shared.Seed = 0,
    out: Annotated[Path | None, shared.output(help="The new file; default: DATA-split.h5.")] = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Set apart new val or test images of a dataset, as a new file, without importing again."""
    from probekit.data.divide import Division, default_out, divide
    from probekit.data.locate import check_h5, named_dataset
    from probekit.output.hints import after_data
    from probekit.output.terminal import progress_bar

    say = errors if as_json else console
    path = named_dataset(file, shared.DATA, shared.RUNS)
    out = out or default_out(path)
    check_h5(out)
    division = Division(val_fraction=val_fraction, test_fraction=test_fraction, group=group, seed=seed, join=join)
    with progress_bar(f"dividing {path.name}", say) as advance:
        info = divide(path, out, division, runs=shared.RUNS, overwrite=overwrite, say=say.print, progress=advance)
    parts = ", ".join(f"{each.n:,} {name}" for name, each in info.splits.items())
    say.print(f"wrote {out}: {parts}; hash {info.content_hash}")
    say.print(after_data(info))
    if as_json:
        print_json(about(info))
