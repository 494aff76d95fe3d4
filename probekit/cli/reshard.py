"""`reshard`: a dataset in another number of files."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli import shared
from probekit.cli.images import about
from probekit.output.console import console, errors, print_json


@shared.command(
    shared.IMAGES,
    "probekit reshard data/photos.h5 --out data/whole.h5",
    "probekit reshard data/rect-tri.h5 --shards 64 --out data/rect-tri-64.h5",
    "probekit reshard 'parts/*.h5'",
)
def reshard(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A file, a folder of shards or a pattern.", autocompletion=shared.datasets_like
        ),
    ],
    shards: Annotated[int, typer.Option(min=1, help="How many files; 1 joins all to one.")] = 1,
    out: Annotated[
        Path | None, shared.output(help="The file, or the folder of shards; default: DATA-whole.h5 or DATA-N.h5.")
    ] = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Join the shards of a dataset to one file, or write a dataset as shards: the same rows with the same hash."""
    from probekit.data.locate import check_h5, named_dataset
    from probekit.data.reshard import default_out
    from probekit.data.reshard import reshard as write
    from probekit.h5 import read_info
    from probekit.output.hints import after_data
    from probekit.output.terminal import progress_bar

    say = errors if as_json else console
    path = named_dataset(data, shared.DATA, shared.RUNS)
    out = out or default_out(read_info(path), shards)
    check_h5(out)
    with progress_bar(f"copying {path.name}", say) as advance:
        info = write(path, out, shards, overwrite=overwrite, progress=advance)
    parts = ", ".join(f"{each.n:,} {name}" for name, each in info.splits.items())
    say.print(f"wrote {out}: {parts}; {len(info.files):,} file{'s' * (shards > 1)}; hash {info.content_hash}")
    say.print(after_data(info))
    if as_json:
        print_json(about(info))
