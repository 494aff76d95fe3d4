"""What a heatmap result says of each class factor, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.heatmaps.tables import CEILING, EVIDENCE, MAP, scored
from probekit.measurement import BASELINE, Result, Row
from probekit.output.document import estimate

ALIKE = 1e-4  # of a mean: what differs by less is one map in two units
SCORE, CALLED = "auroc", "AUROC"  # the one that the verdict goes by


def verdicts(result: Result) -> list[str]:
    """For each class factor, or each mask where there is no evidence: best map, best baseline, ceiling."""
    evidence = [mask for mask in result["masks"] if mask.startswith(EVIDENCE)] or result["masks"]
    return [line for mask in evidence if (line := _verdict(result["rows"], mask))]


def _verdict(rows: Sequence[Row], mask: str) -> str:
    factor, kept = scored(rows, mask)
    known = [row for row in kept if _score(row, mask)["mean"] is not None]
    best, baseline, ceiling = (_best(known, kind, mask) for kind in (MAP, BASELINE, CEILING))
    if best is None:
        return ""
    own, beside = _score(best, mask), None if baseline is None else _score(baseline, mask)
    line = f"{factor or mask}: best map {_names(known, best, mask)}, {CALLED} {estimate(own, 2).text}"
    if baseline is not None:
        line += f"; best baseline {baseline['name']}, {estimate(beside, 2).text}"
    if ceiling is not None:
        line += f"; ceiling {estimate(_score(ceiling, mask), 2).number}"
    return f"{line}. {_judged(own, beside)}"


def _judged(own: Mapping[str, Any], beside: Mapping[str, Any] | None) -> str:
    """What the intervals say, of chance and of the best baseline."""
    if own["ci"] is None or (beside is not None and beside["ci"] is None):
        return "Too few images to tell them apart."
    if own["ci"][0] <= 0.5:
        return "It points there no better than by chance."
    if beside is None or own["ci"][0] > beside["ci"][1]:
        return "It points there better than every baseline." if beside else "It points there."
    if own["ci"][1] < beside["ci"][0]:
        return "That baseline points there better."
    return "Not told apart from that baseline: the intervals overlap."


def _score(row: Row, mask: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row["scores"][mask][SCORE]
    return found


def _best(rows: Sequence[Row], kind: str, mask: str) -> Row | None:
    """The row of a kind that scores highest, if there is one."""
    return max(
        (row for row in rows if row["kind"] == kind), key=lambda row: float(_score(row, mask)["mean"]), default=None
    )


def _names(rows: Sequence[Row], best: Row, mask: str) -> str:
    """Its name, and those of maps that score the same: cam is gradcam under GAP, up to rounding."""
    most = _score(best, mask)["mean"]
    same = [row["name"] for row in rows if row["kind"] == MAP and most - _score(row, mask)["mean"] < ALIKE]
    return " = ".join(same)
