"""What a finished run scored: from its metrics.jsonl (protocol `paper`) and its probe (protocol `val`).

docs/protocols.md says what the checkpoints and protocols mean.
"""

import json
from typing import Any

from probekit.run import Run

BEST_TEST = "best_test/paper"
# checkpoint/protocol: what a table calls it.
SCORES = {
    "last/val": "last, `val`",
    "last/paper": "last, `paper`",
    "best_val/paper": "best_val, `paper`",
    BEST_TEST: "best_test (paper protocol)",
}


def read_probe(run: Run, protocol: str, *, epochs: int) -> dict[str, Any] | None:
    """The contents of `results/probe-PROTOCOL-last.json`, or None if there is none of the run's last epoch."""
    try:
        content = json.loads((run.results / f"probe-{protocol}-last.json").read_text())
        fits = content["epoch"] == epochs and content["seed"] == 0 and content["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if fits else None


def read_scores(run: Run, *, epochs: int) -> dict[str, float] | None:
    """Accuracies in [0, 1] by the names of `SCORES`, or None if the run was not probed at its last epoch.

    Scores that the data do not allow (no validation part) are left out. Ties go to the later epoch, as in training.
    """
    probe = read_probe(run, "val", epochs=epochs)
    scored = [line for line in run.read_metrics() if "test" in line and line["epoch"] <= epochs]
    if probe is None or not scored or scored[-1]["epoch"] != epochs:
        return None
    found: dict[str, float] = {"last/val": probe["rows"][0]["accuracy"], "last/paper": scored[-1]["test"]}
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
