"""Other people's data, turned into the dataset file. One file for each kind of source, one line in SOURCES."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from probekit.h5 import DatasetInfo, DatasetWriter, Header, read_info
from probekit.importers.base import Broken, Options, Skipped, Source
from probekit.importers.folder import open_folder
from probekit.importers.npz import open_npz
from probekit.importers.stream import NeedsColour, write_source

SOURCES: dict[str, Callable[[Path, Options], Source | None]] = {
    "npz": open_npz,  # x_train, y_train, x_test, y_test
    "folder": open_folder,  # class folders with or without train/test(/val) above, or images without labels
}

__all__ = ["SOURCES", "Broken", "Skipped", "import_dataset"]


def import_dataset(
    source: Path,
    *,
    out: Path,
    size: int | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    skip_broken: bool,
    overwrite: bool,
    compression: str,
    progress: Callable[[int, int], None],
) -> tuple[DatasetInfo, list[Skipped]]:
    """Turns images into a dataset file, in constant memory.

    Args:
        source: An npz file with x_train, y_train, x_test and y_test; a folder of class folders, with or without train,
            test and val above; or a folder of unlabelled images.
        out: The file.
        size: Crop the centre square and resize it to this many pixels a side; None leaves images as they are.
        val_fraction: Of each class's training images, set apart as val; 0 for none.
        test_fraction: Of each class's images, set apart as test before val; 0 for none.
        seed: Of the splits.
        skip_broken: Leave unreadable images out instead of refusing.
        overwrite: Replace an existing file.
        compression: "gzip", "lzf" or "none".
        progress: Called with the images done and in all.

    Returns:
        What the file holds, and the files that were left out: broken images, and files that are no images.

    Raises:
        ValueError: If the source holds no images, or they do not fit together, or one is broken.
        OSError: If the source cannot be read, or the file exists or cannot be written.
    """
    options = Options(size=size, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    opened = _open(source, options)
    header = Header(
        generator="",
        params={"source": opened.name, "size": size, "val_fraction": val_fraction, "test_fraction": test_fraction},
        seed=seed,
        style="",
        classes=opened.classes,
        factors=[asdict(factor) for factor, _ in opened.factors],
        mask_names=(),
    )

    def write(channels: int) -> list[Skipped]:
        with DatasetWriter(out, header=header, compression=compression, overwrite=overwrite) as writer:
            return write_source(
                writer,
                opened,
                channels=channels,
                size=size,
                skip_broken=skip_broken,
                compression=compression,
                progress=progress,
            )

    try:
        skipped = write(channels=1)
    except NeedsColour:  # grey so far, so nothing was known until the first image with colour; most often the first
        skipped = write(channels=3)
    return read_info(out), [*opened.ignored, *skipped]


def _open(source: Path, options: Options) -> Source:
    if not source.exists():
        raise ValueError(f"expected an npz file or a folder of images, found nothing at {source}")
    for open_source in SOURCES.values():
        opened = open_source(source, options)
        if opened is not None:
            return opened
    raise ValueError(f"expected an npz file or a folder of images, found {source}")
