"""How features become one row of the table: which C, what is fitted, what is scored.

`fixed`: C = 1, features as they are, fitted on train, scored on test (ConRec paper, section 2.5; authors' code).
`tuned`: features standardised with the mean and sd of what is fitted; C from `GRID`, the best on a validation part of
train; then one fit on all of train at that C, scored once on test. Each class factor gets a probe of its own, likewise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.probes import PROTOCOLS
from probekit.probes.linear import SOLVER, LinearProbe, Space, fit, fit_path
from probekit.probes.scores import evaluate
from probekit.registry import check_named

FIXED_C = 1.0  # authors' code: scikit-learn's default
GRID = tuple(10.0**k for k in range(-5, 2))  # ours: covers the best C for 7 to 16384 features
CHOICE_TOL = 1e-6  # ours: of the objective; what chooses C needs no more digits
VAL_FRACTION = 0.2  # ours
LABEL = ""  # no factor has this name
BRIEF = ("accuracy", "ci", "n", "C", "note")  # what is kept of a class factor's probe
BLOCK = 4096  # rows that are checked at a time; bounds the memory


@dataclass(frozen=True)
class Part:
    """One split, as arrays."""

    x: NDArray[Any]  # features `[N, D]`
    y: NDArray[np.int64]  # `[N]` in [0, K); `average_precision` takes several labels an image, `[N, K]`
    factors: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # each class factor's values `[N]`
    groups: NDArray[Any] | None = None  # `[N]`: an image and its counterfactuals stay together when train is divided


@dataclass(frozen=True)
class _Target:
    """What one probe predicts: codes in [0, k) for each split; `held` is empty without a validation split."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    held: NDArray[np.int64]
    k: int

    def like(self, other: "_Target") -> bool:
        """Whether both are the same codes."""
        return self.k == other.k and all(
            np.array_equal(*both)
            for both in ((self.train, other.train), (self.test, other.test), (self.held, other.held))
        )


def probe(
    name: str,
    kind: str,
    train: Part,
    test: Part,
    *,
    classes: Sequence[str],
    protocol: str,
    seed: int,
    val: Part | None = None,
) -> dict[str, Any]:
    """Fits and scores a linear probe on features, one for the label and one for each class factor; one row, valid JSON.

    One of `classes` may be absent from train or test. `val` chooses C in place of a part of train that the seed draws;
    nothing is fitted on it at the end. Gives what `measurements.linear.LinearRow` has, with labels and predicted, `[n]`
    class numbers of the test images in the file's order; note says why a number is None or C was not chosen, else "";
    and n_iter, protocol, solver; of each factor n, C and note, and right, `[n]`, which test
    images it gets right, empty where nothing was fitted. A ValueError if shapes, labels or features are not
    as described, or train holds one class only.
    """
    check_named("protocol", protocol, PROTOCOLS)
    check_parts(name, train, test, val, len(classes))
    targets = _targets(train, test, val, len(classes))
    own = {t: next(u for u in targets if targets[u].like(targets[t])) for t in targets}  # a factor may be the label
    tried = {t: targets[t] for t in targets if own[t] == t}
    chosen = _choose_all(train, val, tried, seed) if protocol == "tuned" else {}
    space = Space.of(train.x, standardise=protocol == "tuned")
    z_test = space.project(test.x)
    found = {
        t: _score(space.z, z_test, target, *chosen.get(t, (FIXED_C, "")), may_lack=t != LABEL, seed=seed)
        for t, target in tried.items()
    }
    (label, predicted), *others = [found[own[t]] for t in targets]
    return {
        "name": name,
        "kind": kind,
        **label,
        "classes": list(classes),
        "protocol": protocol,
        "solver": SOLVER,
        "n_train": len(train.y),
        "dim": train.x.shape[1],
        "factors": {
            name: {**{key: kept[key] for key in BRIEF}, "right": (guess == targets[name].test[: len(guess)]).tolist()}
            for name, (kept, guess) in zip(train.factors, others, strict=True)
        },
        "labels": test.y.tolist(),
        "predicted": predicted.tolist(),
    }


def fit_label(
    train: Part, *, classes: int, protocol: str, seed: int, val: Part | None = None
) -> tuple[Space, LinearProbe]:
    """The probe of the label that `probe` would score with the same arguments: for what looks into an encoder."""
    check_part(train, "train", train.x.shape[1:], classes)
    none = np.empty(0, dtype=np.int64)
    target = {LABEL: _Target(train.y, none, none if val is None else val.y, classes)}
    C = _choose_all(train, val, target, seed)[LABEL][0] if protocol == "tuned" else FIXED_C
    space = Space.of(train.x, standardise=protocol == "tuned")
    return space, fit(space.z, train.y, C=C)


def validation_part(y: NDArray[np.int64], *, seed: int, groups: NDArray[Any] | None = None) -> NDArray[np.bool_]:
    """Draws `VAL_FRACTION` of every class of `y` `[N]`, at least one sample of each class that has two: bool `[N]`.

    Whole groups are drawn, each counted in the class of its first sample.
    """
    units = np.arange(len(y)) if groups is None else groups
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    drawn = np.zeros(len(first), dtype=np.bool_)
    rng = np.random.default_rng(seed)
    for label in np.unique(y[first]):
        members = rng.permutation(np.flatnonzero(y[first] == label))
        count = max(1, round(VAL_FRACTION * len(members))) if len(members) > 1 else 0
        drawn[members[:count]] = True
    return drawn[unit]


def choose(
    z: NDArray[np.float64],
    y: NDArray[np.int64],
    z_held: NDArray[np.float64],
    y_held: NDArray[np.int64],
) -> float:
    """The C of `GRID` with the lowest log-loss on held-out data; ties go to the smaller C.

    Log-loss, because the accuracy on a few hundred samples is a staircase: its best step is often luck. `z` `[N, R]`
    and `y` `[N]`, of two classes or more, are fitted; `z_held` `[M, R]`, M > 0, and `y_held`, classes that `y` shows,
    choose.
    """
    classes = int(y.max()) + 1
    rows = np.arange(len(y_held))

    def loss(fitted: LinearProbe) -> float:
        return -float(fitted.log_probability(z_held, classes=classes)[rows, y_held].mean())

    return min(fit_path(z, y, grid=GRID, tol=CHOICE_TOL), key=loss).C


def _choose_all(
    train: Part, val: Part | None, targets: Mapping[str, _Target], seed: int
) -> dict[str, tuple[float, str]]:
    """C and a note for each target; all targets share one division of train and one space."""
    if val is None:
        held = validation_part(train.y, seed=seed, groups=train.groups)
        x, x_held = train.x[~held], train.x[held]
        labels = {t: (codes.train[~held], codes.train[held]) for t, codes in targets.items()}
    else:
        x, x_held = train.x, val.x
        labels = {t: (codes.train, codes.held) for t, codes in targets.items()}
    few = (FIXED_C, f"too few samples to choose C on held-out data; C = {FIXED_C:g}")
    chosen = dict.fromkeys(targets, few)
    if len(x) == 0 or len(x_held) == 0:
        return chosen
    space = Space.of(x, standardise=True)
    z_held = space.project(x_held)
    for name, (y, y_held) in labels.items():
        known = np.isin(y_held, y)
        if known.any() and len(np.unique(y)) > 1:
            chosen[name] = (choose(space.z, y, z_held[known], y_held[known]), "")
    return chosen


def _score(
    z: NDArray[np.float64],
    z_test: NDArray[np.float64],
    target: _Target,
    C: float,
    note: str,
    *,
    may_lack: bool,
    seed: int,
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """The scores, and the predicted codes of test."""
    if may_lack and len(np.unique(target.train)) < 2:
        undefined = dict.fromkeys(("accuracy", "ci", "C"))
        return {**undefined, "n": len(target.test), "note": "only one value in train"}, target.test[:0]
    fitted = fit(z, target.train, C=C)
    log_probability = fitted.log_probability(z_test, classes=target.k)
    scores = evaluate(log_probability, target.test, seed=seed)
    if scores["log_loss"] is None:
        note = "; ".join(filter(None, (note, "log-loss undefined: test shows a class that train lacks")))
    return {**scores, "C": C, "n_iter": fitted.n_iter, "note": note}, log_probability.argmax(axis=1)


def _targets(train: Part, test: Part, val: Part | None, classes: int) -> dict[str, _Target]:
    """The label first, then the factors, whose values become codes."""
    none = np.empty(0, dtype=np.int64)
    targets = {LABEL: _Target(train.y, test.y, none if val is None else val.y, classes)}
    for name, values in train.factors.items():
        held = values[:0] if val is None else val.factors[name]
        every = np.concatenate([values, test.factors[name], held])
        seen, codes = np.unique(every, return_inverse=True)
        fitted, scored, chosen = np.split(codes, [len(values), len(values) + len(test.y)])
        targets[name] = _Target(fitted, scored, chosen, len(seen))
    return targets


def check_parts(name: str, train: Part, test: Part, val: Part | None, classes: int) -> None:
    """Refuses splits that are not as `Part` describes; `name` is for messages."""
    for part, where in ((train, "train"), (test, "test"), (val, "val")):
        if part is not None:
            check_part(part, f"{where}, {name}", train.x.shape[1:], classes)


def check_part(part: Part, where: str, width: tuple[int, ...], classes: int) -> None:
    """Refuses what is not as `Part` describes; `where` is for messages, `width` (D,) of the other splits."""
    check_features(part, where, width)
    if len(part.y) != len(part.x):
        raise ValueError(f"expected {len(part.x)} labels in {where}, found {len(part.y)}")
    if part.y.min() < 0 or part.y.max() >= classes:
        raise ValueError(
            f"expected labels 0 to {classes - 1} in {where}, found {part.y.min()} to {part.y.max()}; "
            "type: probekit show PATH"
        )


def check_features(part: Part, where: str, width: tuple[int, ...]) -> None:
    """The half of `check_part` that looks at features, whatever the labels are."""
    if part.x.ndim != 2 or part.x.shape[1:] != width or len(part.x) == 0:
        raise ValueError(
            f"expected features [N, {width[0] if width else 'D'}] with N > 0 in {where}; found {list(part.x.shape)}"
        )
    blocks = (part.x[start : start + BLOCK] for start in range(0, len(part.x), BLOCK))
    broken = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks)
    if broken:
        raise ValueError(
            f"expected finite features in {where}, found nan or inf in {broken} of {len(part.x)} rows; "
            "where training diverged an earlier checkpoint may have finite ones: --checkpoint best_val"
        )
