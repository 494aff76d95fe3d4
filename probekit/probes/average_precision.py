"""Several labels an image: one logistic probe a class, average precision (AP) of each, and its mean over classes.

Labels are 0 (absent), 1 (present) or `DIFFICULT`, which counts neither in the loss nor in the AP, as in PASCAL VOC.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.h5 import DIFFICULT
from probekit.probes import AP_FORMS as FORMS
from probekit.probes.linear import SOLVER, LinearProbe, Space, fit
from probekit.probes.protocol import FIXED_C, Part, check_features, choose, validation_part
from probekit.statistics import MIN_IMAGES, RESAMPLES, percentiles

LEVELS = np.arange(11) / 10
BLOCK = 2**22  # cells of resampled curves at a time; bounds the memory

Floats = NDArray[np.float64]


def multilabel(
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
    """Fits one probe a class and scores its ranking of the test images.

    `y` of each part is uint8 `[N, K]`; `protocol` "tuned" chooses C for each class, on `val` or a part of train drawn
    from the seed, which also decides the bootstrap. Gives one row, valid JSON: what `score_logits` gives, with the C of
    each class, name, kind, protocol, solver, classes, n_train, dim; for an encoder also labels and scores (logits),
    `[n][K]`. A ValueError if shapes, labels or features are not as described.
    """
    for part, where in ((train, "train"), (test, "test"), (val, "val")):
        if part is not None:
            _check(part, f"{where}, {name}", train.x.shape[1:], len(classes))
    space, probes, notes = fit_each(train, val, protocol=protocol, seed=seed)
    z_test, logits = space.project(test.x), np.zeros((len(test.y), len(classes)))
    for k, probe in enumerate(probes):
        if probe is not None:
            logits[:, k] = z_test @ (probe.weight[1] - probe.weight[0]) + probe.bias[1] - probe.bias[0]
    fitted = np.array([probe is not None for probe in probes])
    scored = score_logits(logits, test.y, classes=classes, seed=seed, fitted=fitted)
    for found, probe, note in zip(scored["per_class"], probes, notes, strict=True):
        found |= {"C": None if probe is None else probe.C, "note": found["note"] or note}
    return {
        "name": name,
        "kind": kind,
        "protocol": protocol,
        "solver": SOLVER,
        **scored,
        "classes": list(classes),
        "n_train": len(train.y),
        "dim": train.x.shape[1],
        **(
            {"labels": test.y.tolist(), "scores": [[float(f"{v:.6g}") for v in row] for row in logits]}
            if kind == "encoder"
            else {}
        ),
    }


def score_logits(
    logits: Floats,
    y: NDArray[np.integer],
    *,
    classes: Sequence[str],
    seed: int,
    fitted: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Average precision of each class, from logits `[n, K]` and labels uint8 `[n, K]`, and their mean.

    `fitted` `[K]`: the other classes are left out; None is all. Gives map {form: {value, ci}} of `FORMS`, per_class
    [{name, ap {form: value or None}, ap_ci {form: interval or None}, positives, n, difficult, note}], undefined (how
    many classes the mean leaves out) and n. Intervals: percentile bootstrap over images, the same resamples for all.
    """
    counts = np.random.default_rng(seed).multinomial(len(y), np.full(len(y), 1 / len(y)), size=RESAMPLES)
    drawn, per_class = [], []
    for k, title in enumerate(classes):
        known = y[:, k] != DIFFICULT
        truth = y[known, k] == 1
        ap: dict[str, float | None] = dict.fromkeys(FORMS)
        ends: dict[str, list[float] | None] = dict.fromkeys(FORMS)
        if truth.any() and (fitted is None or fitted[k]):
            ap = {form: float(v[0]) for form, v in average_precision(logits[known, k], truth).items()}
            drawn.append(average_precision(logits[known, k], truth, counts[:, known]))
            if known.sum() >= MIN_IMAGES:
                ends = {form: percentiles(values[~np.isnan(values)]) for form, values in drawn[-1].items()}
        per_class.append(
            {
                "name": title,
                "ap": ap,
                "ap_ci": ends,
                "positives": int(truth.sum()),
                "n": int(known.sum()),
                "difficult": int((~known).sum()),
                "note": "" if truth.any() else "no image of the class in test",
            }
        )
    return {
        "map": {form: _mean(form, per_class, drawn, enough=len(y) >= MIN_IMAGES) for form in FORMS},
        "per_class": per_class,
        "undefined": len(classes) - len(drawn),
        "n": len(y),
    }


def average_precision(
    score: NDArray[np.floating], truth: NDArray[np.bool_], counts: NDArray[np.integer] | None = None
) -> dict[str, Floats]:
    """The three forms of AP of scores `[n]`; images with equal scores enter together, so their order does not matter.

    `counts` `[B, n]`: how often each image is drawn in each of B resamples; None is each once. Gives `[B]` for each of
    `FORMS`; NaN for a resample without a positive image.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.inf) != 0)  # the last of each run of equal scores
    every = np.ones((1, len(score)), dtype=np.int64) if counts is None else counts
    step = max(1, BLOCK // len(score))
    parts = [_forms(every[i : i + step, order], truth[order], ends) for i in range(0, len(every), step)]
    return {form: np.concatenate([part[form] for part in parts]) for form in FORMS}


def _forms(counts: NDArray[np.integer], truth: NDArray[np.bool_], ends: NDArray[np.int64]) -> dict[str, Floats]:
    """From the best score down: `counts` `[B, n]`, `truth` `[n]`."""
    taken, right = counts.cumsum(axis=1)[:, ends], (counts * truth).cumsum(axis=1)[:, ends]
    with np.errstate(invalid="ignore"):
        precision = np.where(taken > 0, right / np.maximum(1, taken), 0.0)
        recall = right / right[:, -1:]  # NaN without a positive
        steps = np.diff(recall, axis=1, prepend=0.0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # The best precision at a recall of at least each level; the last recall is 1, so there is one.
        reached = [np.where(recall >= level, envelope, 0.0).max(axis=1) for level in LEVELS]
        points = np.where(np.isnan(recall[:, 0]), np.nan, np.mean(reached, axis=0))
    return {"voc2007": points, "voc2010": (envelope * steps).sum(axis=1), "step": (precision * steps).sum(axis=1)}


def fit_each(
    train: Part, val: Part | None, *, protocol: str, seed: int
) -> tuple[Space, list[LinearProbe | None], list[str]]:
    """A probe for each class, fitted in one space, and a note; None where train shows one kind of label only."""
    held = np.zeros(len(train.y), dtype=np.bool_)
    if protocol == "tuned" and val is None:
        held = validation_part(rarest(train.y), seed=seed, groups=train.groups)
    asked = Part(train.x[held], train.y[held]) if val is None else val
    choosing = Space.of(train.x[~held], standardise=True) if protocol == "tuned" and len(asked.y) else None
    z_held = None if choosing is None else choosing.project(asked.x)
    space = Space.of(train.x, standardise=protocol == "tuned")
    notes, probes = [""] * train.y.shape[1], list[LinearProbe | None]()
    for k in range(train.y.shape[1]):
        known = train.y[:, k] != DIFFICULT
        y = train.y[known, k].astype(np.int64)
        if len(np.unique(y)) < 2:
            notes[k] = "one kind of label only in train"
            probes.append(None)
            continue
        C = FIXED_C
        if choosing is not None and z_held is not None:
            fitted, scored = known & ~held, asked.y[:, k] != DIFFICULT
            y_fit, y_held = train.y[fitted, k].astype(np.int64), asked.y[scored, k].astype(np.int64)
            if len(np.unique(y_fit)) > 1 and scored.any():
                C = choose(choosing.z[fitted[~held]], y_fit, z_held[scored], y_held)
            else:
                notes[k] = f"too few samples to choose C on held-out data; C = {FIXED_C:g}"
        probes.append(fit(space.z[known], y, C=C))
    return space, probes, notes


def rarest(y: NDArray[np.integer]) -> NDArray[np.int64]:
    """One class for each image, to stratify by: the rarest of those it shows, or K where it shows none; `[N]`."""
    present = y == 1
    frequency = np.where(present, present.sum(axis=0), len(y) + 1)
    found: NDArray[np.int64] = np.where(present.any(axis=1), frequency.argmin(axis=1), y.shape[1])
    return found


def _mean(
    form: str, per_class: Sequence[dict[str, Any]], drawn: Sequence[dict[str, Floats]], *, enough: bool
) -> dict[str, Any]:
    """Over the classes that are defined; a resample leaves out a class of which it drew no positive image."""
    values = [found["ap"][form] for found in per_class if found["ap"][form] is not None]
    if not values:
        return {"value": None, "ci": None}
    each = np.array([draws[form] for draws in drawn])
    each = np.nanmean(each[:, ~np.isnan(each).all(axis=0)], axis=0)
    return {"value": float(np.mean(values)), "ci": percentiles(each) if enough else None}


def _check(part: Part, where: str, width: tuple[int, ...], classes: int) -> None:
    check_features(part, where, width)
    if part.y.shape != (len(part.x), classes):
        raise ValueError(f"expected labels [{len(part.x)}, {classes}] in {where}, found {list(part.y.shape)}")
    strange = np.setdiff1d(part.y, (0, 1, DIFFICULT))
    if len(strange):
        raise ValueError(f"expected labels 0, 1 or {DIFFICULT} in {where}, found {strange[0]}")
