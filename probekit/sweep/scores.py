"""What a finished run scored: from its metrics.jsonl (the monitor) and from what was measured of it.

docs/protocols.md says what checkpoints and protocols mean.
"""

from typing import Any

from probekit.measurement import Score, encoder_row, measurement
from probekit.run import Run
from probekit.sweep.measures import LINEAR, Measure, find_result
from probekit.weights import LAST

FIRST = f"last/{LINEAR}"
BEST_TEST = "best_test/monitor"
# checkpoint/score: what a table calls it. A run has these unless its images have no test labels, or `[measure]` of the
# sweep file leaves the linear probe out; it adds others.
SCORES = {
    FIRST: "last, linear probe",
    "last/monitor": "last, monitor",
    "best_val/monitor": "best_val, monitor",
    BEST_TEST: "best_test, monitor (as the papers choose)",
}


def title(score: str) -> str:
    """What a table calls a score without a pooling, e.g. "last/rank-1"."""
    return SCORES.get(score) or score.partition("/")[2]


def read_scores(run: Run, *, epochs: int, measure: Measure) -> dict[str, Score] | None:
    """Scores by name, or None if one is missing that is to be measured at the run's last epoch.

    Scores that the data do not allow (no validation part, no test labels) are left out. Ties go to the later epoch, as
    in training.
    """
    if not run.json.exists():
        return None
    measured = [step.read(run, epochs=epochs) for step in measure.steps]
    lines = [line for line in run.read_metrics() if line["epoch"] <= epochs]
    scored = [line for line in lines if "test" in line]
    if None in measured or not lines or (scored or lines)[-1]["epoch"] != epochs:
        return None
    found = {name: value for scores in measured if scores for name, value in scores.items()}
    if not scored:
        return found
    found["last/monitor"] = Score(scored[-1]["test"], None)
    validated = [line for line in scored if "val" in line]
    if validated:
        found["best_val/monitor"] = Score(_latest_best(validated, "val")["test"], None)
    found[BEST_TEST] = Score(_latest_best(scored, "test")["test"], None)
    return found


def read_factors(run: Run, *, epochs: int) -> dict[str, Score]:
    """Accuracy of the linear probe of each class factor."""
    result = find_result(run, measurement(LINEAR), LAST, epochs=epochs) if run.json.exists() else None
    factors = encoder_row(result)["factors"] if result else {}
    return {name: Score(found["accuracy"], None) for name, found in factors.items() if found["accuracy"] is not None}


def _latest_best(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return max(lines, key=lambda line: (line[name], line["epoch"]))
