"""Numbers in the tables of heatmaps.

Alone: pytest tests/heatmaps/test_table.py
"""

from typing import Any

import pytest

from probekit.heatmaps.table import mean_half, percent_half


@pytest.mark.parametrize(
    ("mean", "ci", "shown"),
    [
        (0.34, [0.32, 0.36], ".34 ±.02"),
        (-0.34, [-0.36, -0.32], "-.34 ±.02"),
        (1.0, [1.0, 1.0], "1.00 ±.00"),
        (10.02, [0.02, 20.02], "10.02 ±10.00"),
        (0.34, None, ".34"),
    ],
)
def test_only_a_leading_zero_is_left_out(mean: float, ci: list[float] | None, shown: str) -> None:
    assert mean_half({"mean": mean, "ci": ci}) == shown


@pytest.mark.parametrize(
    ("ci", "shown"), [([5.0, 11.0], "8 ±3"), ([0.0, 26.0], "8\n[0,26]"), ([4.0, 10.0], "8\n[4,10]"), (None, "8")]
)
def test_a_share_and_its_interval_stay_in_range(ci: Any, shown: str) -> None:
    assert percent_half({"drop": {"mean": 8.0, "ci": ci}}, "drop") == shown


@pytest.mark.parametrize(
    ("mean", "ci", "shown"),
    [(0.98, [0.9, 1.0], ".98\n[.90,1.00]"), (0.02, [0.0, 0.06], ".02\n[.00,.06]"), (0.97, [0.94, 1.0], ".97 ±.03")],
)
def test_a_score_and_its_interval_stay_in_range(mean: float, ci: list[float], shown: str) -> None:
    assert mean_half({"mean": mean, "ci": ci}) == shown
