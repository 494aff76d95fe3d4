"""Made-up answers of the exam, and what is made of them, as `probekit exam` keeps it."""

from typing import Any

import numpy as np

from probekit.exams import conflict, run, scoring
from probekit.exams.draw import CHANGES
from probekit.exams.items import ITEMS
from probekit.exams.measurement import Exam
from probekit.exams.trials import Trial

ITEM_NAMES = ("landolt", "landolt-mirror", "bind")
OUTPUTS = (("level1", "gap"), ("level2", "grid4"), ("embedding", "own"))
PAIRS = 12


def trial(levels: int, apart: float, *, seed: int = 0) -> Trial:
    """Answers whose two roles are further apart at each level."""
    values = np.random.default_rng(seed).normal(size=(1, levels, 2 * PAIRS)).astype(np.float32)
    values[..., 1::2] += apart * np.arange(1, levels + 1, dtype=np.float32)[:, None]
    return Trial(values, values, ("easy" if levels > 1 else "one",))


def row(name: str, kind: str, apart: float) -> dict[str, Any]:
    """One observer."""
    outputs = OUTPUTS if kind == "encoder" else OUTPUTS[-1:]
    items = {
        item: scoring.item_numbers(
            ITEMS[item],
            128,
            {output: trial(len(ITEMS[item].levels), apart, seed=n) for n, output in enumerate(outputs)},
        )
        for item in ITEM_NAMES
    }
    plain = {output: trial(7, apart) for output in outputs}
    asked = {question: {output: trial(3, apart) for output in outputs} for question in conflict.QUESTIONS}
    return {
        "name": name,
        "kind": kind,
        "strides": dict(zip((layer for layer, _ in outputs), (2, 4, None), strict=False)),
        "items": items,
        "invariance": {
            change: scoring.changed_numbers(plain, {output: trial(1, apart) for output in outputs})
            for change in CHANGES
        },
        "conflict": scoring.conflict_numbers(asked, 128),
    }


def about(asked: Exam) -> dict[str, Any]:
    """What a result has beside its rows, of the items here."""
    found = run._about(asked)
    return found | {"options": asked.options, "items": {name: found["items"][name] for name in ITEM_NAMES}}


def rows() -> list[dict[str, Any]]:
    """An encoder, and two who sit beside it."""
    return [
        row("conrec last", "encoder", 0.6),
        row("random weights", "baseline", 0.1),
        row("patch bag", "baseline", 1.0),
    ]
