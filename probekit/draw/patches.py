"""Arithmetic of patches: principal components over several images, and the nearest patches of two.

Shapes: n images, h w cells of a feature map, D dimensions.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
COMPONENTS = 3  # one a colour
ENDS = (1.0, 99.0)  # per cent of the cells between which colours are spread; ours: single cells take no colour away


class Components(NamedTuple):
    """Principal components of the cells of images, as colours."""

    colours: NDArray[np.float64]  # `[n, h, w, 3]` in [0, 1]
    shares: list[float]  # `[3]`, of the variance that each component has; 0 beyond rank


def components(features: Floats) -> Components:
    """The first three principal components of all cells of images `[n, h, w, D]`: a colour means one thing in all.

    The mean of all cells is taken off. The sign of a component is that in which its largest loading is positive, so
    that it does not hang on the library. Each is spread over [0, 1] by the cells of all images together.
    """
    n, h, w, dim = features.shape
    cells = features.reshape(-1, dim).astype(np.float64)
    centred = cells - cells.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, ::-1][:, :COMPONENTS]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])])
    total = max(float(values.sum()), np.finfo(float).tiny)
    shares = [max(0.0, float(value)) / total for value in values[::-1][:COMPONENTS]]
    found = centred @ first
    low, high = np.percentile(found, ENDS, axis=0)
    colours = np.full((len(cells), COMPONENTS), 0.5)
    colours[:, : found.shape[1]] = np.clip((found - low) / np.where(high > low, high - low, 1), 0, 1)
    return Components(colours.reshape(n, h, w, COMPONENTS), [*shares, *[0.0] * (COMPONENTS - len(shares))])


class Matches(NamedTuple):
    """For each cell of an image the nearest of another."""

    nearest: NDArray[np.int64]  # `[h w]`, that cell
    cosines: NDArray[np.float64]  # `[h w]`
    mutual: NDArray[np.bool_]  # `[h w]`, whether that one's nearest is it


def match(first: Floats, second: Floats) -> Matches:
    """The cells of a map `[h, w, D]` that are nearest by cosine to those of another; of equal ones the first."""
    a, b = unit(first), unit(second)
    table = a @ b.T
    nearest = table.argmax(axis=1)
    back = table.argmax(axis=0)
    return Matches(nearest, table.max(axis=1), back[nearest] == np.arange(len(a)))


def spread(features: Floats, count: int) -> list[int]:
    """Cells of a map `[h, w, D]` that differ: the one least like the mean, then the least like those before it.

    By cosine, of equal ones the first; fewer where cells are fewer.
    """
    cells = unit(features)
    mean = cells.mean(axis=0)
    chosen = [int((cells @ mean).argmin())]
    nearest = cells @ cells[chosen[0]]  # of each cell, to the chosen one that is most like it
    while len(chosen) < min(count, len(cells)):
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, cells @ cells[chosen[-1]])
    return chosen


def unit(features: Floats) -> NDArray[np.float64]:
    """Cells `[h w, D]` of length 1; those of zeros stay."""
    cells: Any = features.reshape(-1, features.shape[-1]).astype(np.float64)
    length = np.linalg.norm(cells, axis=1, keepdims=True)
    found: NDArray[np.float64] = cells / np.where(length > 0, length, 1)
    return found
