"""What is drawn is of the seed: subsets of labels, validation parts and folds, also where they are used.

Alone: pytest tests/probes/test_seeds.py
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probekit.probes import cross_validation, protocol
from probekit.probes.cross_validation import cross_validate, divide
from probekit.probes.fractions import subsets
from probekit.probes.measurements.fractions import Fractions
from probekit.probes.protocol import Part, fit_label, probe, validation_part
from tests.probes import made

RNG = np.random.default_rng(0)
Y = np.arange(60) % 2
NOISE = Part(RNG.normal(size=(60, 5)).astype(np.float32), Y)
TEST = Part(RNG.normal(size=(200, 5)).astype(np.float32), np.arange(200) % 2)
CLASSES = ("a", "b")


def by_half(seed: int) -> dict[str, Any]:
    """On three draws of half of the labels."""
    asked = Fractions((0.5,), draws=3)
    given = made.conditions(asked, classes=CLASSES, seed=seed, train=NOISE, test=TEST)
    return asked.row(made.source(train=NOISE, test=TEST), given)


DRAWN: dict[str, Callable[[int], Any]] = {
    "subsets": lambda seed: subsets(Y, shares=(0.5,), seed=seed, draw=0)[0],
    "validation part": lambda seed: validation_part(Y, seed=seed),
    "folds": lambda seed: divide(Y, folds=5, seed=seed, repeat=0),
    "fractions": lambda seed: by_half(seed)["points"][0]["scores"]["linear"]["values"],
    "cross-validation": lambda seed: cross_validate(
        "f", "encoder", NOISE, classes=CLASSES, protocol="fixed", seed=seed, metric="accuracy", folds=3, repeats=1
    )["decodings"]["plain"]["accuracy"]["folds"],
}


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_draws_otherwise_and_the_same_the_same(name: str) -> None:
    found = [np.asarray(DRAWN[name](seed)).tolist() for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len({str(value) for value in found}) == 3


@pytest.mark.parametrize(
    ("module", "use"),
    [
        (protocol, lambda seed: probe("f", "encoder", NOISE, TEST, classes=CLASSES, protocol="tuned", seed=seed)),
        (protocol, lambda seed: fit_label(NOISE, classes=2, protocol="tuned", seed=seed)),
        (
            cross_validation,
            lambda seed: cross_validate(
                "f", "encoder", NOISE, classes=CLASSES, protocol="tuned", seed=seed, folds=2, repeats=1
            ),
        ),
    ],
    ids=["probe", "fit_label", "cross_validate"],
)
def test_the_part_that_chooses_c_is_of_the_seed(
    module: Any, use: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[bytes] = []
    asked: list[int] = []

    def noted(y: Any, *, seed: int, groups: Any = None) -> Any:
        held = validation_part(y, seed=seed, groups=groups)
        parts.append(held.tobytes())
        asked.append(seed)
        return held

    monkeypatch.setattr(module, "validation_part", noted)
    for seed in (3, 4):
        use(seed)
    half = len(asked) // 2
    assert asked == [3] * half + [4] * half
    assert parts[0] != parts[half]
