"""`probekit import`: other people's images, turned into a dataset file."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from probekit.commands.hints import after_data
from probekit.commands.locate import check_h5
from probekit.commands.progress import progress_bar
from probekit.h5 import DatasetInfo
from probekit.importers import OFFICIAL, Choices, Options, Skipped, Told, import_dataset, import_official, is_unfinished
from probekit.importers.official import MAX_GB
from probekit.registry import nearest


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What was typed; None is the source's default.

    Attributes:
        size: Pixels a side.
        resize: "crop" or "squash".
        max_gb: The most gigabytes of pixels that are kept as they are.
        val_fraction: Of the training images.
        test_fraction: Of all images.
        seed: Of the fractions, and of a choice of classes.
        skip_broken: Leave unreadable images out.
        compression: "gzip", "lzf" or "none".
        overwrite: Replace an existing file.
    """

    size: int | None
    resize: str | None
    max_gb: float | None
    val_fraction: float
    test_fraction: float | None
    seed: int
    skip_broken: bool
    compression: str | None
    overwrite: bool


def run_import(
    source: str, root: Path | None, choices: Choices, options: ImportOptions, *, out: Path, console: Console
) -> DatasetInfo:
    """Imports, lists what was skipped, and says what was written and what to type next.

    Args:
        source: A name in `OFFICIAL`, or else an npz file or a folder; ./NAME is always a folder.
        root: The folder of an official dataset.
        choices: What was chosen of it.
        options: The rest.
        out: The file.
        console: Where lines go.

    Raises:
        ValueError: If the source holds no images, or they do not fit together, or one is broken, or `out` does not end
            with .h5.
        OSError: If the file exists or cannot be written.
    """
    check_h5(out)
    with progress_bar(f"importing {Path(source).name}", console) as advance:
        told = Told(advance, console.print)
        try:
            if source in OFFICIAL:
                info, skipped = _import_official(source, root, choices, options, out, told)
            else:
                info, skipped = _import_plain(source, root, choices, options, out, told)
        except (KeyboardInterrupt, SystemExit):
            if is_unfinished(out):
                console.print("interrupted; the same command goes on from here")
            raise
    for item in skipped:
        console.print(f"skipped {item.path}: {item.reason}")
    parts = ", ".join(f"{split.n:,} {name}" for name, split in info.splits.items())
    classes = f"{len(info.classes) or 'no'} class{'es' * (len(info.classes) != 1)}"
    console.print(f"wrote {out}: {parts}; {classes}; hash {info.content_hash}")
    if source in OFFICIAL or options.max_gb is not None:
        console.print(_kept(info, MAX_GB if options.max_gb is None else options.max_gb))
    console.print(after_data(info))
    return info


def _import_official(
    name: str, root: Path | None, choices: Choices, options: ImportOptions, out: Path, told: Told
) -> tuple[DatasetInfo, list[Skipped]]:
    official = OFFICIAL[name]
    resolved = Options(
        size=options.size or official.size,
        resize=options.resize or official.resize,
        max_gb=MAX_GB if options.max_gb is None else options.max_gb,
        val_fraction=options.val_fraction,
        test_fraction=official.test_fraction if options.test_fraction is None else options.test_fraction,
        seed=options.seed,
    )
    return import_official(
        name,
        root,
        choices,
        resolved,
        out=out,
        skip_broken=options.skip_broken,
        overwrite=options.overwrite,
        # Photographs shrink by 14 % (probekit.h5.write), which would take as long as decoding them.
        compression=options.compression or "none",
        told=told,
    )


def _import_plain(
    source: str, root: Path | None, choices: Choices, options: ImportOptions, out: Path, told: Told
) -> tuple[DatasetInfo, list[Skipped]]:
    if root is not None:
        raise ValueError(nearest("official dataset", source, OFFICIAL))
    typed = [name for name, value in asdict(choices).items() if value and name != "seed"]
    if typed:
        option = f"--{typed[0].replace('_', '-')}"
        raise ValueError(f"expected {option} with an official dataset (probekit list), found {source}; leave it out")
    return import_dataset(
        Path(source),
        out=out,
        size=options.size,
        resize=options.resize or "crop",
        max_gb=options.max_gb,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction or 0.0,
        seed=options.seed,
        skip_broken=options.skip_broken,
        overwrite=options.overwrite,
        compression=options.compression or "gzip",
        progress=told.progress,
        note=told.note,
    )


def _kept(info: DatasetInfo, max_gb: float) -> str:
    """Whether pixels were kept, and why."""
    pixels = sum(split.n * split.height * split.width * split.channels for split in info.splits.values()) / 1e9
    if info.splits["train"].encoded:
        size = info.path.stat().st_size / 1e9
        return (
            f"kept as JPEG of quality 95, which loses a little: {size:.2f} GB in place of {pixels:.2f} GB of pixels, "
            f"more than --max-gb {max_gb:g}"
        )
    return f"kept as pixels, {pixels:.2f} GB, nothing lost (up to --max-gb {max_gb:g})"
