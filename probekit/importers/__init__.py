"""Other people's data, turned into the dataset file: a source each for kinds of files, and for official datasets."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from probekit.h5 import DatasetInfo, DatasetWriter, Header, check_target, read_info
from probekit.h5.encoded import QUALITY
from probekit.importers.base import Broken, Options, Skipped, Source, Told
from probekit.importers.folder import open_folder
from probekit.importers.images import has_colour
from probekit.importers.journal import Journal, Unfinished, is_unfinished
from probekit.importers.npz import open_npz
from probekit.importers.official import OFFICIAL, Choices, Official, open_official
from probekit.importers.stream import Form, NeedsColour, write_source

SOURCES: dict[str, Callable[[Path, Options], Source | None]] = {
    "npz": open_npz,  # x_train, y_train, x_test, y_test
    "folder": open_folder,  # class folders with or without train/test(/val) above, or images without labels
}

__all__ = [
    "OFFICIAL",
    "SOURCES",
    "Broken",
    "Choices",
    "Official",
    "Options",
    "Skipped",
    "Told",
    "import_dataset",
    "import_official",
    "is_unfinished",
]


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
    resize: str = "crop",
    max_gb: float | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> tuple[DatasetInfo, list[Skipped]]:
    """Turns images into a dataset file, in constant memory; goes on where the same was interrupted.

    Args:
        source: An npz file with x_train, y_train, x_test and y_test; a folder of class folders, with or without train,
            test and val above; or a folder of unlabelled images.
        out: The file.
        size: Resize to this many pixels a side; None leaves images as they are.
        val_fraction: Of each class's training images, set apart as val; 0 for none.
        test_fraction: Of each class's images, set apart as test before val; 0 for none.
        seed: Of the splits.
        skip_broken: Leave unreadable images out instead of refusing.
        overwrite: Replace an existing file.
        compression: "gzip", "lzf" or "none".
        progress: Called with the images done and in all.
        resize: "crop" the centre square first, or "squash" the whole image.
        max_gb: Above this many gigabytes of pixels images are kept as JPEG files, which loses a little; None: never.
        note: Called with a line for the user.

    Returns:
        What the file holds, and the files that were left out: broken images, and files that are no images.

    Raises:
        ValueError: If the source holds no images, or they do not fit together, or one is broken.
        OSError: If the source cannot be read, or the file exists or cannot be written.
    """
    options = Options(
        size=size, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, resize=resize, max_gb=max_gb
    )
    work = _Import(out, options, skip_broken, overwrite, compression, Told(progress, note))
    return work.write(_open(source, options))


def import_official(
    name: str,
    root: Path | None,
    choices: Choices,
    options: Options,
    *,
    out: Path,
    skip_broken: bool,
    overwrite: bool,
    compression: str,
    told: Told,
) -> tuple[DatasetInfo, list[Skipped]]:
    """The same for the unpacked files of an official dataset.

    Args:
        name: A key of `OFFICIAL`.
        root: The folder; None for the sets that need no files.
        choices: What there is to choose of this dataset.
        options: Size, fractions, seed.
        out: The file.
        skip_broken: Leave unreadable images out instead of refusing.
        overwrite: Replace an existing file.
        compression: "gzip", "lzf" or "none".
        told: Who hears of it.

    Raises:
        ValueError: If the files are not those of the dataset, or are not all there, or an image is broken.
        OSError: If they cannot be read, or the file exists or cannot be written.
    """
    work = _Import(out, options, skip_broken, overwrite, compression, told)
    return work.write(open_official(name, root, choices, options))


class _Import:
    """One import, from an open source to the finished file."""

    def __init__(
        self, out: Path, options: Options, skip_broken: bool, overwrite: bool, compression: str, told: Told
    ) -> None:
        self.out, self.options, self.told = out, options, told
        self.skip_broken, self.overwrite, self.compression = skip_broken, overwrite, compression

    def write(self, source: Source) -> tuple[DatasetInfo, list[Skipped]]:
        """Writes the file; grey images stay grey only if all are."""
        # First of all: what is refused must not drop an unfinished import of other settings.
        check_target(self.out, compression=self.compression, overwrite=self.overwrite)
        goes_on = is_unfinished(self.out, self._form(source, 3).identity())
        if source.channels is None and not (goes_on and _any_colour(source)):
            with suppress(NeedsColour):  # grey so far, so nothing was known until the first image with colour
                return self._write(source, channels=1)
        return self._write(source, channels=source.channels or 3)

    def _write(self, source: Source, *, channels: int) -> tuple[DatasetInfo, list[Skipped]]:
        form = self._form(source, channels)
        header, identity = self._header(source, form), form.identity()
        unfinished = Unfinished(self.out, identity)
        if unfinished.dropped:
            self.told.note("an unfinished import with other settings was dropped: this one begins anew")
        with (
            DatasetWriter(self.out, header=header, compression=self.compression, overwrite=self.overwrite) as writer,
            Journal(writer, unfinished, identity) as journal,
        ):
            skipped = write_source(writer, source, form, journal, skip_broken=self.skip_broken, told=self.told)
        journal.finish()
        return read_info(self.out), [*source.ignored, *skipped]

    def _form(self, source: Source, channels: int) -> Form:
        size, most = self.options.size, self.options.max_gb
        n = sum(map(len, source.splits.values()))
        encoded = size is not None and most is not None and n * size * size * channels > most * 1e9
        return Form(
            channels=channels, size=size, resize=self.options.resize, encoded=encoded, compression=self.compression
        )

    def _header(self, source: Source, form: Form) -> Header:
        options = self.options
        params: dict[str, Any] = {
            "source": source.name,
            "size": options.size,
            "val_fraction": options.val_fraction,
            "test_fraction": options.test_fraction,
        }
        if options.resize != "crop":
            params["resize"] = options.resize
        if form.encoded:
            params["encoded"] = f"JPEG of quality {QUALITY}, lossy"
        return Header(
            generator="",
            params=params | source.params,
            seed=options.seed,
            style="",
            classes=source.classes,
            factors=[asdict(factor) for factor, _ in source.factors],
            mask_names=(),
        )


def _any_colour(source: Source) -> bool:
    """Whether an image has colour; reads up to the first that has."""
    for item in chain.from_iterable(source.splits.values()):
        with suppress(Broken):
            if has_colour(item.decode()):
                return True
    return False


def _open(source: Path, options: Options) -> Source:
    if not source.exists():
        raise ValueError(f"expected an npz file or a folder of images, found nothing at {source}")
    for open_source in SOURCES.values():
        opened = open_source(source, options)
        if opened is not None:
            return opened
    raise ValueError(f"expected an npz file or a folder of images, found {source}")
