"""Numbers in the tables of heatmaps.

Alone: pytest tests/heatmaps/test_table.py
"""

import pytest

from probekit.heatmaps.table import mean_half


@pytest.mark.parametrize(
    ("mean", "ci", "shown"),
    [
        (0.34, [0.32, 0.36], ".34 ±.02"),
        (-0.34, [-0.36, -0.32], "-.34 ±.02"),
        (1.0, [1.0, 1.0], "1.00 ±.00"),
        (10.02, [0.0, 20.5], "10.02 ±10.25"),
    ],
)
def test_only_a_leading_zero_is_left_out(mean: float, ci: list[float], shown: str) -> None:
    assert mean_half({"mean": mean, "ci": ci}) == shown
