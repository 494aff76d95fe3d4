"""Numbers in the tables of heatmaps, and in few letters. Alone: pytest tests/heatmaps/test_tables.py."""

from typing import Any

import pytest

from probekit.heatmaps.measurement import Heatmap
from probekit.output.document import Cell, scored


@pytest.mark.parametrize(
    ("mean", "ci", "shown", "brief"),
    [
        (0.34, [0.32, 0.36], "0.34 [0.32, 0.36]", "[.32,.36]"),
        (-0.34, [-0.36, -0.32], "-0.34 [-0.36, -0.32]", "[-.36,-.32]"),
        (0.98, [0.9, 1.0], "0.98 [0.90, 1.00]", "[.90,1.00]"),
        (0.02, [0.0, 0.06], "0.02 [0.00, 0.06]", "[.00,.06]"),
        (10.02, [0.02, 20.02], "10.02 [0.02, 20.02]", "[.02,20.02]"),
        (100.5, [100.0, 110.5], "100.50 [100.00, 110.50]", "[100.00,110.50]"),
        (0.34, None, "0.34", ""),
    ],
)
def test_only_a_leading_zero_is_left_out(mean: float, ci: list[float] | None, shown: str, brief: str) -> None:
    cell = scored(mean, ci, 2)
    assert (cell.text, cell.brief) == (shown, brief)


def row(name: str, kind: str, **scores: Any) -> dict[str, Any]:
    nothing = {"mean": None, "ci": None}
    found = dict.fromkeys(("average_drop", "average_increase", "average_gain", "mean_map"), nothing) | scores
    about = {"name": name, "kind": kind, "target": "", "encoder": "trained" if kind == "map" else "", "grid": [2, 2]}
    return about | {"scores": {}, "perturbation": {"": found | {"n": 9}}, "swap": {}, "sanity_check": None}


def test_perturbation_scores_are_in_per_cent_with_their_ends() -> None:
    """A drop of 8 % has another interval than one of 80 %, also where a terminal is narrow."""
    drop, mean = {"mean": 10.5, "ci": [10.0, 20.5]}, {"mean": 0.5, "ci": [0.25, 0.75]}
    rows = [row("uniform", "baseline"), row("cam", "map", average_drop=drop, mean_map=mean)]
    result = {"rows": rows, "masks": [], "chance": {}, "fill": "black"}
    (table,) = Heatmap().tables(result)
    assert [cells[0].text for cells in table.rows] == ["cam", "uniform"], "maps come first"
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["drop %"] == Cell("10.5", 10.5, "[10.0, 20.5]", "[10.0,20.5]")
    assert cells["mean map"] == Cell("0.50", 0.5, "[0.25, 0.75]", "[.25,.75]")
    assert dict(zip(table.columns, table.rows[1], strict=True))["drop %"].text == "-"
    assert table.strong == {0}
