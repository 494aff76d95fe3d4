"""`probekit import`: other people's images, turned into a dataset file."""

from pathlib import Path

from rich.console import Console

from probekit.commands.hints import after_data
from probekit.commands.locate import check_h5
from probekit.commands.progress import progress_bar
from probekit.h5 import DatasetInfo
from probekit.importers import import_dataset


def run_import(
    source: Path,
    *,
    out: Path,
    size: int | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    skip_broken: bool,
    compression: str,
    overwrite: bool,
    console: Console,
) -> DatasetInfo:
    """Imports, lists what was skipped, and says what was written and what to type next.

    Raises:
        ValueError: If the source holds no images, or they do not fit together, or one is broken, or `out` does not end
            with .h5.
        OSError: If the file exists or cannot be written.
    """
    check_h5(out)
    with progress_bar(f"importing {source.name}", console) as advance:
        info, skipped = import_dataset(
            source,
            out=out,
            size=size,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
            skip_broken=skip_broken,
            overwrite=overwrite,
            compression=compression,
            progress=advance,
        )
    for item in skipped:
        console.print(f"skipped {item.path}: {item.reason}")
    parts = ", ".join(f"{split.n:,} {name}" for name, split in info.splits.items())
    classes = f"{len(info.classes) or 'no'} class{'es' * (len(info.classes) != 1)}"
    console.print(f"wrote {out}: {parts}; {classes}; hash {info.content_hash}")
    console.print(after_data(info))
    return info
