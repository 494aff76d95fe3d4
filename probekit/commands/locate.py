"""Which file or run a command means when none is named."""

from pathlib import Path

from rich.console import Console


def newest_dataset(folder: Path) -> Path | None:
    """The dataset file in `folder` that was written last, or None."""
    found = (path for path in folder.glob("*.h5") if path.is_file())
    files = sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))
    return files[-1] if files else None


def dataset_or_default(named: Path | None, folder: Path, console: Console) -> Path:
    """The named dataset file, or the newest, or the paper's rect-tri set, rendered now; says which it took.

    Raises:
        ValueError: If the named file does not exist.
    """
    if named is not None:
        if not named.exists():
            raise ValueError(f"expected a dataset file {named}, found none; type: probekit gen rect-tri --out {named}")
        return named
    newest = newest_dataset(folder)
    if newest is not None:
        console.print(f"data: {newest} (the newest in {folder})")
        return newest
    from probekit.commands.gen import gen_once

    return gen_once("rect-tri", folder / "rect-tri.h5", console)
