"""In which formats pictures are saved: set by --format, read where they are saved. The standard library alone."""

from pathlib import Path

FORMATS = ("png", "svg", "pdf")
chosen: tuple[str, ...] = ()  # beside the one that a picture's own name ends in
DARK = ".dark.png"  # ends the name of a picture's twin for dark pages


def dark_of(out: Path) -> Path:
    """Where a picture's dark twin stands."""
    return out.with_suffix(DARK)


def is_dark(path: Path) -> bool:
    """Whether it is such a twin."""
    return path.name.endswith(DARK)


def choose(typed: str) -> str:
    """Takes what stands after --format, as "png,svg"; a ValueError if one is none of `FORMATS`."""
    global chosen
    named = tuple(name.strip().lower().removeprefix(".") for name in typed.split(",") if name.strip())
    for name in named:
        if name not in FORMATS:
            raise ValueError(f"expected formats among {', '.join(FORMATS)}, found {name!r}; type: --format png,svg,pdf")
    chosen = named
    return typed
