"""The contract of a logger: what it is told when a run begins, and the three calls that follow."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Ending = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Begun:
    """What a logger knows of the run whose numbers it is to keep.

    `name`: the run's; `folder`: the run folder; `settings`: by dotted names; `key`: the `Logger.key` of
    the run that goes on, "" of a new one.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    key: str


class Logger(ABC):
    """Keeps numbers and pictures by step; any exception of a call ends it, and the training goes on without.

    Attributes:
        key: What finds this run again, a word that run.json keeps; "" where the run folder is enough.
        place: Where it writes, for the reader.
        shows: Whether it takes pictures.
    """

    key: str = ""
    place: str
    shows: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, begun: Begun) -> None:
        """Begins, or goes on, before the first step; a ValueError in one line if it cannot."""

    @abstractmethod
    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keeps numbers by name; steps rise from call to call, across interruptions too."""

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Keeps a picture `[H, W, 3]`, where it `shows` any."""
        raise NotImplementedError

    @abstractmethod
    def close(self, ending: Ending) -> None:
        """Puts everything on its way."""
