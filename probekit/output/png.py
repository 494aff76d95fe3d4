"""PNG files: written whole or not at all, and never over a file that probekit did not draw."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probekit.files import replaced

SOFTWARE = "probekit"
MARK = b"tEXtSoftware\0" + SOFTWARE.encode()  # PNG specification, 11.3.3.2: among the first chunks
HEAD = 4096  # bytes of a file in which it stands


def save_png(figure: Figure, out: Path, *, dpi: int) -> Path:
    """Draws a figure to a PNG file, whole or not at all; its folder is made. Refuses as `check_png`."""
    check_png(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    with replaced(out) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": SOFTWARE})
    return out


def encoder_name(result: Mapping[str, Any]) -> str:
    """For a title: a result's run, with checkpoint and pooling where they are not the last encoder's own."""
    return str(result["run"]) + ("" if result["checkpoint"] == "last" else f", {result['checkpoint']}")


def check_png(out: Path) -> None:
    """Refuses what does not end in .png, or is a file that probekit did not draw: its own can be drawn again."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"expected a picture NAME.png, found {out}; type --out {quote(str(out.with_suffix('.png')))}")
    if out.exists() and not _drawn_here(out):
        raise ValueError(f"{out} exists and is no picture that probekit drew; move it away or choose another --out")


def _drawn_here(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(HEAD)
