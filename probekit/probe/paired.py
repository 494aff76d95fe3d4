"""Two classifiers on the same images: McNemar's exact test, Holm over a family, and what a row says of the floors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

LEVEL = 0.05  # of the tests that give a verdict
UNDECIDED = "not told apart from"
VERDICTS = ("above", UNDECIDED, "below")


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> dict[str, Any]:
    """The exact test of McNemar (1947): are the images that only one of two classifiers gets right split evenly?

    Args:
        a: `[N]`, which images the first gets right.
        b: `[N]`, which the second gets right.

    Returns:
        only_a, only_b, counts; p, two-sided and exact (binomial), 1 where no image divides them.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    divided = only_a + only_b
    p = float(binomtest(only_a, divided, 0.5).pvalue) if divided else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def verdict(difference: float, p: float) -> str:
    """One of `VERDICTS`: the first against the second, at `LEVEL`."""
    if p >= LEVEL:
        return UNDECIDED
    return "above" if difference > 0 else "below"


def against_floors(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What can be said of the first row against the others on the same test images, Holm over all of them.

    Args:
        rows: {"name", "labels", "predicted", ...}; another without a prediction of each image is left out.

    Returns:
        One of `VERDICTS` by the other's name, "above" where the first is; empty if the first has no predictions.
    """
    first, *others = rows
    if "predicted" not in first:
        return {}
    asked = [row for row in others if "predicted" in row and row["labels"] == first["labels"]]
    right, *rights = (np.equal(row["predicted"], row["labels"]) for row in (first, *asked))
    tests = [mcnemar(right, other) for other in rights]
    adjusted = holm([test["p"] for test in tests])
    return {
        row["name"]: verdict(test["only_a"] - test["only_b"], p)
        for row, test, p in zip(asked, tests, adjusted, strict=True)
    }
