"""Several processes with a share of each batch train as one with all of it: every method, every branch.

Alone: pytest tests/ranks/test_equal.py; with -s it prints the table of docs/scale.md.
"""

from typing import Any

import pytest
import torch

from probekit.registry import METHODS
from tests.ranks.equal import trained
from tests.ranks.together import together

BOUND = 1e-9
ZERO = 1e-6  # less is 0 but for rounding: the mean of what a batch norm has made
Case = tuple[tuple[str, ...], dict[str, Any]]

WITHOUT: list[Case] = [((method,), {}) for method in METHODS]
WITH: list[Case] = [
    ((method, branch), {}) for method in METHODS for branch in ("lcr", "xcorr") if method != "reconstruction"
]
CROPS: list[Case] = [((method, "contrastive-crop"), {}) for method in ("conrec", "swav")]
PASTED: list[Case] = [
    (("moco-v2", "dilo"), {}),
    (("swav", "xcorr", "dilo"), {"streamed": True}),
    (("moco-v2", "cvsa"), {}),
    (("byol", "cvsa"), {"streamed": True}),
]
OTHERS: list[Case] = [
    (("moco-v2",), {"method.group": 32}),  # one group, of all processes
    (("moco-v2",), {"method.group": 2}),  # several groups a process
    (("moco-v2",), {"method.queue": 0}),
    (("byol", "lcr-dual-pooling"), {}),
    (("moco-v2", "lewel"), {}),
    (("byol", "lewel"), {}),
    (("simclr", "lewel"), {}),
    (("simclr", "lcr-mlp"), {"branch.lcr.norm": True, "branch.lcr.cam_scale": "raw"}),
    (("swav", "lcr", "xcorr", "contrastive-crop"), {}),
    (("simclr", "xcorr"), {"streamed": True}),
    (("swav",), {"photographs": True}),
    (("conrec", "xcorr", "contrastive-crop"), {"photographs": True, "branch.xcorr.bank": "augmented"}),
    (("barlow-twins",), {"optimizer.clip": 0.1}),
    (("simclr", "xcorr"), {"branch.xcorr.stages": "before", "branch.xcorr.bank": "augmented"}),
    (("simclr", "lcr"), {"branch.lcr.reduction": "sum", "branch.lcr.cam_scale": "raw", "branch.lcr.group": 4}),
]
CASES: list[Case] = [*WITHOUT, *WITH, *CROPS, *PASTED, *OTHERS]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[list[dict[str, Any]]]]:
    """By number of processes, then by process, then by case."""
    folder = tmp_path_factory.mktemp("ranks")
    return {n: together(n, folder, trained, CASES) for n in (1, 2, 4)}


def relative(a: Any, b: Any) -> float:
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return float((a - b).norm() / a.norm().clamp(min=ZERO))


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    assert one["scalars"].keys() == other["scalars"].keys()
    assert one["buffers"].keys() == other["buffers"].keys()
    return {
        "scalars": max(relative(value, other["scalars"][name]) for name, value in one["scalars"].items()),
        "gradients": max(map(relative, one["gradients"], other["gradients"])),
        "weights": relative(one["weights"], other["weights"]),
        "buffers": max(relative(value, other["buffers"][name]) for name, value in one["buffers"].items()),
    }


@pytest.mark.parametrize("number", range(len(CASES)), ids=["+".join(names) for names, _ in CASES])
def test_several_processes_train_as_one(number: int, found: dict[int, list[list[dict[str, Any]]]]) -> None:
    (one,) = found[1]
    for n in (2, 4):
        worst = differences(one[number], found[n][0][number])
        print("+".join(CASES[number][0]), CASES[number][1], n, {k: f"{v:.0e}" for k, v in worst.items()})
        assert max(worst.values()) < BOUND, (n, worst)
        for other in found[n][1:]:  # bit for bit the same in all of them
            assert torch.equal(other[number]["weights"], found[n][0][number]["weights"])
    assert one[number]["gradients"].norm() > 0
