"""Factor: what is stored for each sample. Lengths and positions are in px at 128.

Pixels of a 128 px frame, that is, with the middle of the frame at (64, 64); a frame of another size scales them. Real
factors are stored as float32 multiples of 1/4096, so that what is stored is exactly what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 4096.0  # steps per px at 128 of stored lengths


@dataclass(frozen=True)
class Factor:
    """A number that is stored for each sample.

    kind: class (whole numbers from 0 to high, what labels are made of), real, circular (degrees; low and high are the
    same point only if they are 360 apart), ordinal, or key (a random word: not a thing to predict). low, high: the
    range at 128 px, both included. law: in words, how it is drawn. values: the names of the values of a class factor.
    """

    name: str
    kind: str
    low: float
    high: float
    unit: str
    law: str
    about: str
    values: tuple[str, ...] = ()


ANGLE = Factor("angle", "circular", -180.0, 180.0, "deg", "uniform within +-rotation", "turn of the scene")
NOISE_KEY = Factor("noise_key", "key", 0, 2**32 - 1, "", "uniform", "key of the pixel noise, if there is any")


def dtype_of(factors: tuple[Factor, ...]) -> np.dtype[np.void]:
    """The type of a row of factors: class uint8, key uint32, all others float32."""
    kinds = {"class": "u1", "key": "u4"}
    return np.dtype([(f.name, kinds.get(f.kind, "f4")) for f in factors])


def on_grid(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round to multiples of 1/4096; float32 holds these exactly up to 4096."""
    return (np.rint(values * GRID) / GRID).astype(np.float32)


def off_centre(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round lengths to odd multiples of 1/4096.

    Centres lie on multiples of 1/4096. So no side of an unrotated shape runs through pixel centres, where the last bit
    of a number would decide.
    """
    return (2.0 * np.floor(lengths * GRID / 2.0) + 1.0) / GRID
