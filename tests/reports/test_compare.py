"""Paired tests against naive references. Alone: pytest tests/reports/test_compare.py."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.registry import MEASUREMENTS
from probekit.reports.collect import collect
from probekit.reports.compare import _why_not, compare, method_labels
from probekit.statistics import holm, mcnemar, paired_bootstrap, sign_flip
from tests.reports.folders import make_run


def outcomes(n: int = 200, *, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return rng.random(n) < 0.7, rng.random(n) < 0.6


def test_mcnemar_by_hand() -> None:
    a = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], dtype=bool)
    b = np.array([0, 0, 0, 0, 0, 0, 1, 0, 1, 0], dtype=bool)
    found = mcnemar(a, b)
    assert (found["only_a"], found["only_b"]) == (6, 1)
    assert found["p"] == pytest.approx(2 * (math.comb(7, 0) + math.comb(7, 1)) / 2**7)  # 0.125
    assert mcnemar(b, a)["p"] == pytest.approx(found["p"])
    assert mcnemar(a, a)["p"] == 1


def test_bootstrap_is_that_of_images() -> None:
    a, b = outcomes()
    found = paired_bootstrap(a, b, seed=0)
    assert found["difference"] == pytest.approx(a.mean() - b.mean())
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        index = rng.integers(0, len(a), len(a))
        drawn.append(a[index].mean() - b[index].mean())
    assert found["ci"] == pytest.approx(list(np.quantile(drawn, [0.025, 0.975])), abs=0.012)
    assert paired_bootstrap(a, b, seed=0) == found
    assert paired_bootstrap(a, a, seed=0) == {"difference": 0, "ci": None}, "nothing divides them"


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sign_flip_needs_six_seeds_and_counts_every_flip() -> None:
    five = {seed: 0.5 + 0.01 * seed for seed in range(5)}
    assert sign_flip(five, dict.fromkeys(five, 0.4)) is None
    six = five | {5: 0.6}
    assert sign_flip(six, dict.fromkeys(six, 0.4)) == pytest.approx(2 / 2**6)
    mixed = {0: 0.1, 1: -0.05, 2: 0.2, 3: 0.15, 4: -0.02, 5: 0.12}
    total = abs(sum(mixed.values()))
    signs = [[1 if bits >> i & 1 else -1 for i in range(6)] for bits in range(64)]
    sums = [abs(sum(s * v for s, v in zip(flips, mixed.values(), strict=True))) for flips in signs]
    expected = sum(value >= total - 1e-12 for value in sums) / 64
    assert sign_flip(mixed, dict.fromkeys(mixed, 0.0)) == pytest.approx(expected)


def test_labels_name_what_differs() -> None:
    base = {"method": "conrec", "seed": 0, "model": {"width": 16}}
    wide = {"method": "conrec", "seed": 1, "model": {"width": 32}}
    other = {"method": "simclr", "seed": 1, "model": {"width": 8}}
    assert method_labels([base, base | {"seed": 3}, other]) == ["conrec", "conrec", "simclr"]
    assert method_labels([base, wide, other]) == ["conrec (model.width 16)", "conrec (model.width 32)", "simclr"]


def test_branches_are_part_of_a_methods_label() -> None:
    lcr, more = (other_seed(seed, {"lcr": {"k": k}}) for seed, k in ((1, 4), (2, 8)))
    assert method_labels([other_seed(3, {}), lcr, lcr | {"seed": 5}]) == ["simclr", "simclr + lcr", "simclr + lcr"]
    assert method_labels([lcr, more]) == ["simclr + lcr (branches.lcr.k 4)", "simclr + lcr (branches.lcr.k 8)"]


def other_seed(seed: int, branches: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {"method": "simclr", "seed": seed, "branches": branches}


def test_two_runs_are_paired_by_image(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "a", noise=0.3), make_run(tmp_path, "b", method="simclr", noise=1.5)]
    content = collect(runs)
    (group,) = content["comparison"]["groups"]
    (pair,) = group["pairs"]
    rows = [run["results"]["linear"][0]["rows"][0] for run in content["runs"]]
    right = [np.array(row["predicted"]) == np.array(row["labels"]) for row in rows]
    assert pair["difference"] == pytest.approx(rows[0]["accuracy"] - rows[1]["accuracy"])
    assert pair["only_a"] == (right[0] & ~right[1]).sum()
    assert pair["p"] < 0.05 < pair["difference"]
    assert pair["p_holm"] == pytest.approx(pair["p"])
    assert group["over_seeds"] is None


def test_other_images_are_never_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", data_hash="cd" * 32), make_run(tmp_path, "c", full=False)]
    found = collect(runs)["comparison"]
    assert found["groups"] == []
    assert [line.split()[0] for line in found["left_out"]] == ["a", "b", "c"]
    assert "probekit probe" in found["left_out"][2]


def test_predictions_are_needed_and_labels_must_agree(tmp_path: Path) -> None:
    content = collect([make_run(tmp_path, "a"), make_run(tmp_path, "b", seed=1)])
    row: dict[str, Any] = content["runs"][1]["results"]["linear"][0]["rows"][0]
    row["labels"] = row["labels"][::-1]
    (pair,) = compare(content["runs"])["groups"][0]["pairs"]
    assert pair["why"] == "not the same test images"
    assert pair["p"] is None
    del row["predicted"]
    assert compare(content["runs"])["groups"] == []


def test_runs_trained_on_other_images_are_no_seeds_of_one_method(tmp_path: Path) -> None:
    """Probed on the same images, with the same settings, but pretrained on different ones."""
    content = collect([make_run(tmp_path, name, seed=seed) for name, seed in (("a", 0), ("b", 1), ("c", 2))])
    content["runs"][1]["dataset"] |= {"hash": "cd" * 32, "name": "harder"}
    group = compare(content["runs"])["groups"][0]
    labels = [row["method"] for row in group["runs"]]
    assert labels[0] == labels[2] == "conrec (trained on rect-tri abababab)"
    assert labels[1] == "conrec (trained on harder cdcdcdcd)"
    assert [row["seeds"] for row in group["over_seeds"]["methods"]] == [[0, 2], [1]]


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_methods_are_paired_by_seed(seeds: int, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, f"{method}-{seed}", method=method, seed=seed, noise=noise)
        for method, noise in (("conrec", 0.3), ("simclr", 0.9))
        for seed in range(seeds)
    ]
    group = collect(runs)["comparison"]["groups"][0]
    over = group["over_seeds"]
    assert [row["n"] for row in over["methods"]] == [seeds, seeds]
    (pair,) = over["pairs"]
    by_run = {row["run"]: row["accuracy"] for row in group["runs"]}
    differences = [by_run[f"conrec-{seed}"] - by_run[f"simclr-{seed}"] for seed in range(seeds)]
    assert pair["mean"] == pytest.approx(np.mean(differences))
    assert pair["testable"] == (seeds >= 3)
    assert (pair["p"] is None) == (seeds < 6)


def test_a_run_whose_results_are_of_other_weights_is_not_said_to_be_unprobed() -> None:
    run: dict[str, Any] = {"results": {name: [] for name in MEASUREMENTS}, "name": "b", "argument": ["b"]}
    line = "runs/b/results/linear-tuned-last.json was not used: last has other weights now; measure again"
    assert _why_not(run | {"left_out": [line]}) == f"b is not compared: {line}; type: probekit probe b"
    assert _why_not(run | {"left_out": []}) == "b is not compared: it has not been measured; type: probekit probe b"
