"""What a format writes of an encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probekit.restore.opened import OpenedRun


@dataclass(frozen=True)
class Written:
    """One file of an export.

    `name`: the file's; `about`: what is in it, one line; `usage`: how it is loaded, Markdown for the card.
    """

    name: str
    about: str
    usage: str


Write = Callable[[OpenedRun, Path], Written]  # an encoder on the CPU, and the folder that the file goes to


def kind_of(opened: OpenedRun) -> str:
    """The first word of the backbone's name: "unet", "timm", "py", ..."""
    return str(opened.header["spec"].get("backbone", "unet")).partition(":")[0]


def code(language: str, *lines: str) -> str:
    """A block of code of Markdown."""
    return "\n".join((f"```{language}", *lines, "```"))
