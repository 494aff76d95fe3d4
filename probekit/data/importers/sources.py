"""The kinds of sources, each tried in turn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote

from probekit.data.importers.arrays import open_arrays
from probekit.data.importers.base import Options, Source
from probekit.data.importers.factored import open_factored
from probekit.data.importers.folder import open_folder
from probekit.data.importers.npz import open_npz
from probekit.data.importers.official import medmnist
from probekit.data.importers.official.recognised import recognised
from probekit.data.importers.shards import BRACES
from probekit.data.importers.tables import open_tables
from probekit.data.importers.tars import open_tars

SOURCES: dict[str, Callable[[Path, Options], Source | None]] = {
    "npz": open_npz,  # x_train, y_train, x_test, y_test
    "factors": open_factored,  # dSprites, Shapes3D, Synbols
    "arrays": open_arrays,  # any other npz, and HDF5
    "tables": open_tables,  # parquet files, and folders of save_to_disk
    "shards": open_tars,  # webdataset
    "folder": open_folder,  # class folders with or without train/test(/val) above, or images without labels
}

KINDS = "a folder of images, parquet or tar files, an npz or HDF5 file"


def open_source(source: Path, options: Options) -> Source:
    """What a path means; a ValueError if that is nothing to be imported.

    Where it looks like an official dataset, whose own splits are lost so, a line says what to type.
    """
    official = recognised(source)
    try:
        opened = _open(source, options)
    except ValueError as error:
        if official is None:
            raise
        raise ValueError(f"{error}; if it is the official dataset, {official}") from error
    if official is None:
        return opened
    line = f"this looks like an official dataset; to have its own splits and checks, {official}"
    return replace(opened, notes=[*opened.notes, line])


def _open(source: Path, options: Options) -> Source:
    """The same by the first kind that takes it."""
    if not (source.exists() or BRACES.search(str(source))):
        remote = "; nothing is downloaded" if ":" in source.parts[0] else ""
        raise ValueError(f"expected {KINDS}, found nothing at {source}{remote}")
    if (name := medmnist.set_of(source)) is not None and options.images is None:
        raise ValueError(
            f"expected a set of MedMNIST by its name and the folder of its file, found {source}; "
            f"type: probekit import {name} {quote(str(source.parent))}"
        )
    for open_kind in SOURCES.values():
        opened = open_kind(source, options)
        if opened is not None:
            return opened
    raise ValueError(f"expected {KINDS}, found {source}")
