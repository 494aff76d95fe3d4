"""What a finished run scored: from its metrics.jsonl (protocol `paper`) and its probe (protocol `val`).

docs/protocols.md says what the checkpoints and protocols mean.
"""

from typing import Any

from probekit.run import Run
from probekit.sweep.measures import Measure, read_probe

BEST_TEST = "best_test/paper"
# checkpoint/protocol: what a table calls it. Every run has these; `[measure]` of a sweep file adds others.
SCORES = {
    "last/val": "last, `val`",
    "last/paper": "last, `paper`",
    "best_val/paper": "best_val, `paper`",
    BEST_TEST: "best_test (paper protocol)",
}


def title(score: str) -> str:
    """What a table calls a score without a pooling, e.g. "last/map-auroc:corner"."""
    what, _, factor = score.partition("/")[2].partition(":")
    further = {"map-auroc": f"map on {factor}, AUROC", "map-rank": f"map on {factor}, rank"}
    return SCORES.get(score) or further.get(what, what)


def read_scores(run: Run, *, epochs: int, measure: Measure) -> dict[str, float] | None:
    """Scores in [0, 1] by name, or None if one is missing that is to be measured at the run's last epoch.

    Scores that the data do not allow (no validation part) are left out. Ties go to the later epoch, as in training.
    """
    measured = [step.read(run, epochs=epochs) for step in measure.steps]
    scored = [line for line in run.read_metrics() if "test" in line and line["epoch"] <= epochs]
    if None in measured or not scored or scored[-1]["epoch"] != epochs:
        return None
    found = {name: value for scores in measured if scores for name, value in scores.items()}
    found["last/paper"] = scored[-1]["test"]
    validated = [line for line in scored if "val" in line]
    if validated:
        found["best_val/paper"] = _latest_best(validated, "val")["test"]
    found[BEST_TEST] = _latest_best(scored, "test")["test"]
    return found


def read_factors(run: Run, *, epochs: int) -> dict[str, float]:
    """Accuracy of each class factor under `last/val`."""
    probe = read_probe(run, "val", epochs=epochs)
    factors = probe["rows"][0].get("factors", {}) if probe else {}
    return {name: scores["accuracy"] for name, scores in factors.items() if scores["accuracy"] is not None}


def _latest_best(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return max(lines, key=lambda line: (line[name], line["epoch"]))
