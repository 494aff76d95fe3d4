"""The linear probe on fractions of the training labels (ConRec paper, Figure 2; LCR paper, Table 2).

Stratified, nested subsets, several draws of them: the papers' code draws one, and ConRec's without stratification.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.probe.protocol import Part, probe
from probekit.probe.scores import TOP
from probekit.statistics import ENDS, MIN_IMAGES, RESAMPLES, interval, mean_over_seeds

FRACTIONS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
)  # ConRec paper, Figure 2: 1 to 100 %; LCR paper, Table 2: 20, 50, 100 %
DRAWS = 5  # ours; ConRec's code repeats APTOS 5 times, the other sets once
SHARES = (0.9, 0.95)  # of the accuracy with all labels: sample complexity


def fractions(
    name: str,
    kind: str,
    train: Part,
    test: Part,
    *,
    classes: Sequence[str],
    protocol: str,
    seed: int,
    shares: Sequence[float] = FRACTIONS,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Fits and scores a linear probe on nested subsets of train.

    Under protocol `val` each subset chooses its C on a validation part of its own: nothing else is known at that label
    count, so a validation split of the file is not used.

    Args:
        name: As `protocol.probe`, and the same for all up to `seed`.
        kind: See `name`.
        train: See `name`.
        test: See `name`.
        classes: See `name`.
        protocol: See `name`.
        seed: Of the subsets; draw i takes (seed, i).
        shares: Fractions in (0, 1]; 1 is always among them.
        draws: Subsets of each size.

    Returns:
        One row, valid JSON: name, kind, protocol, points, complexity {share: n} as `complexity`, complexity_ci, n_test,
        dim; for an encoder also labels `[n_test]`, predicted {fraction: one list a draw}. A point, in ascending order:
        fraction, n (mean size), accuracy (mean), ci, accuracies (of each draw), C (of each draw), and with more than 5
        classes top5 (mean) and top5_ci. Intervals: 95 % Student t over draws; at 1, where all draws are the same, 95 %
        Wilson over test images. complexity_ci {share: [low, high]}: 95 % percentile bootstrap over draws;
        None with one draw or fewer than 10 test images.

    Raises:
        ValueError: As `protocol.probe`, or if a fraction is not in (0, 1].
    """
    shares = check_fractions(shares)
    chosen = [subsets(train.y, shares=shares, seed=seed, draw=i, groups=train.groups) for i in range(draws)]
    plain = Part(test.x, test.y)
    points, predicted = [], {}
    for j, share in enumerate(shares):
        rows = []
        for masks in chosen if share < 1 else chosen[:1]:
            part = Part(train.x[masks[j]], train.y[masks[j]], groups=_of(train.groups, masks[j]))
            rows.append(probe(name, "encoder", part, plain, classes=classes, protocol=protocol, seed=seed))
        points.append(_point(share, rows, len(classes)))
        predicted[f"{share:g}"] = [row["predicted"] for row in rows]
    return {
        "name": name,
        "kind": kind,
        "protocol": protocol,
        "points": points,
        "complexity": complexity(points),
        "complexity_ci": _complexity_intervals(points, draws=draws if len(test.y) >= MIN_IMAGES else 1, seed=seed),
        "n_test": len(test.y),
        "dim": train.x.shape[1],
        **({"labels": test.y.tolist(), "predicted": predicted} if kind == "encoder" else {}),
    }


def subsets(
    y: NDArray[np.int64], *, shares: Sequence[float], seed: int, draw: int, groups: NDArray[Any] | None = None
) -> list[NDArray[np.bool_]]:
    """One draw of stratified subsets, each inside the next.

    Args:
        y: int64 `[N]`.
        shares: Fractions in (0, 1], ascending.
        seed: Of all draws.
        draw: Which.
        groups: `[N]`: whole groups are drawn, each counted in the class of its first sample.

    Returns:
        A bool mask `[N]` for each fraction: of each class the rounded share of its samples (groups), one at least.
    """
    units = np.arange(len(y)) if groups is None else groups
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    rng = np.random.default_rng([seed, draw])
    position = np.empty(len(first), dtype=np.int64)  # of each unit in its class's order
    members = np.bincount(y[first])[y[first]]
    for label in np.unique(y[first]):
        own = np.flatnonzero(y[first] == label)
        position[rng.permutation(own)] = np.arange(len(own))
    return [(position < np.maximum(1, np.rint(share * members)))[unit] for share in shares]


def complexity(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sample complexity: the smallest n from which on the mean accuracy stays at a share of that with all labels.

    Whitney et al. 2020 (arXiv 2009.07368): the least n whose expected loss is at most epsilon. Here the loss
    is the error, epsilon is 1 - share * (accuracy with all labels), and n is one of the sizes that were tried: nothing
    is interpolated.

    Args:
        points: Of `fractions`, ascending, the last with all labels.

    Returns:
        n for each of `SHARES`, by their text.
    """
    found = {}
    for share in SHARES:
        goal = share * points[-1]["accuracy"]
        below = [i for i, point in enumerate(points) if point["accuracy"] < goal]
        found[f"{share:g}"] = points[below[-1] + 1 if below else 0]["n"]
    return found


def _complexity_intervals(points: Sequence[dict[str, Any]], *, draws: int, seed: int) -> dict[str, list[float] | None]:
    """Percentile intervals of `complexity` over draws of the draws; each is a whole curve, for subsets are nested."""
    if draws < 2:
        return dict.fromkeys((f"{share:g}" for share in SHARES), None)
    rng = np.random.default_rng(seed)
    each = np.array([point["accuracies"] * (draws // len(point["accuracies"])) for point in points])  # all labels: once
    means = each[:, rng.integers(draws, size=(RESAMPLES, draws))].mean(axis=-1)
    found = [
        complexity([{"n": point["n"], "accuracy": mean} for point, mean in zip(points, curve, strict=True)])
        for curve in means.T
    ]
    # Sizes that were tried: an end between two of them would be none.
    ends = {share: np.percentile([n[share] for n in found], ENDS, method="nearest") for share in found[0]}
    return {share: interval(*pair) for share, pair in ends.items()}


def check_fractions(shares: Sequence[float]) -> tuple[float, ...]:
    """The fractions in ascending order, each once, with 1 among them.

    Raises:
        ValueError: If one is not in (0, 1].
    """
    for share in shares:
        if not 0 < share <= 1:
            raise ValueError(
                f"expected fractions above 0 and up to 100 %, found {100 * share:g}; type: --fractions 1,10"
            )
    return tuple(sorted({*shares, 1.0}))


def _point(share: float, rows: Sequence[dict[str, Any]], classes: int) -> dict[str, Any]:
    accuracies = [row["accuracy"] for row in rows]
    found = mean_over_seeds(accuracies)
    point = {
        "fraction": share,
        "n": sum(row["n_train"] for row in rows) / len(rows),
        "accuracy": found["mean"],
        "ci": rows[0]["ci"] if share == 1 or rows[0]["ci"] is None else found["ci"],
        "accuracies": accuracies,
        "C": [row["C"] for row in rows],
    }
    if classes > TOP:
        five = mean_over_seeds([row["top5"] for row in rows])
        point |= {
            "top5": five["mean"],
            "top5_ci": rows[0]["top5_ci"] if share == 1 or rows[0]["ci"] is None else five["ci"],
        }
    return point


def _of(groups: NDArray[Any] | None, mask: NDArray[np.bool_]) -> NDArray[Any] | None:
    return None if groups is None else groups[mask]
