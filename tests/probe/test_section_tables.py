"""Intervals in the terminal's tables stay inside what is possible. Alone: pytest tests/probe/test_section_tables.py"""

from typing import Any

import pytest
from rich.table import Table

from probekit.probe.section_tables import _half, every_table, fingerprint_table, fractions_table


def cells(table: Table) -> list[str]:
    return [str(cell) for column in table.columns for cell in column.cells]


@pytest.mark.parametrize(
    ("accuracy", "ci", "shown"),
    [(0.5, [0.4, 0.6], "50.0\n±10.0"), (0.98, [0.9, 1.0], "98.0\n[90,100]"), (0.02, [0.0, 0.09], "2.0\n[0,9]")],
)
def test_accuracies_of_fractions(accuracy: float, ci: list[float], shown: str) -> None:
    point = {"fraction": 0.1, "n": 10, "accuracy": accuracy, "ci": ci}
    row = {"name": "e", "kind": "encoder", "points": [point], "complexity": {}, "complexity_ci": {}}
    assert shown in cells(fractions_table([row]))


def test_what_neighbours_share_has_its_ends() -> None:
    """1 - a ratio of medians: at most 1, and far from the middle of its interval."""
    found: dict[str, Any] = {"x": {"kind": "real", "value": 0.827, "ci": [-0.7, 0.93], "chance": 0.0}}
    assert "82.7\n[-70, 93]" in cells(fingerprint_table([{"name": "e", "kind": "encoder", "fingerprint": found}]))


def test_scores_along_pretraining_have_their_ends() -> None:
    point = {"epoch": 3, "scores": {"kNN": {"value": 0.98, "ci": [0.9, 1.0]}}}
    assert "0.980\n[0.90,1.00]" in cells(every_table([point], []))


def test_plus_minus_stands_for_an_interval_around_the_middle_alone() -> None:
    """31 of 36 right: Wilson's interval is 71.3 to 93.9, not 86.1 ± 11.3."""
    assert _half(0.861, [0.713, 0.939]) == "[71,94]"
    assert _half(0.861, [0.811, 0.911]) == "±5.0"
    assert _half(1.0, None) == ""
