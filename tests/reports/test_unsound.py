"""Results files that are not as they are written: left out in a line, or read as far as they go.

Alone: pytest tests/reports/test_unsound.py
"""

import json
from pathlib import Path
from typing import Any

import pytest

from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import html
from tests.reports.folders import make_run
from tests.reports.further import STEMS, add_further, kept_result

pytestmark = pytest.mark.usefixtures("plain_pictures")

BREAKS: dict[str, Any] = {
    "fractions": lambda c: c["rows"][0]["points"].append({"n": 3}),
    "knn": lambda c: c["rows"][0].update(ci=[0.1]),
    "retrieval": lambda c: c["rows"][0].update(labels=[0]),
    "cv": lambda c: c.update(rows=[]),
    "multilabel": lambda c: c["rows"][0].pop("map"),
    "sgd": lambda c: c["rows"][0].update(best_test={"score": 2.0, "epoch": 1}),
    "all-checkpoints": lambda c: c["rows"].append(c["rows"][0]),
    "reconstruction": lambda c: c["rows"][0]["answers"][0].pop("right"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_unsound_file_is_named_and_left_out(name: str, tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"))
    content = kept_result(run, name)
    BREAKS[name](content)
    (run.results / f"{STEMS[name]}.json").write_text(json.dumps(content))
    found = collect([run])
    assert found["runs"][0]["results"][name] == []
    assert any(f"{STEMS[name]}.json was not used" in line for line in found["runs"][0]["left_out"])
    html(build(found))


LACKS: dict[str, Any] = {
    "no fingerprint": ("retrieval", lambda row: row.update(fingerprint={})),
    "no gallery": ("retrieval", lambda row: row.update(gallery=[])),
    "no monitor": ("knn", lambda row: row.update(monitor=[])),
    "no point": ("fractions", lambda row: row.update(points=[])),
    "no score at a point": ("fractions", lambda row: row["points"][-1].update(scores={})),
    "another score at each point": (
        "fractions",
        lambda row: [point.update(scores={f"{i}": {"value": i, "ci": None}}) for i, point in enumerate(row["points"])],
    ),
    "undefined": ("fractions", lambda row: row["points"][0]["scores"]["linear"].update(value=None, ci=None)),
    "no score": ("retrieval", lambda row: row.update(scores={})),
    "no decoding": ("cv", lambda row: row.update(decodings={})),
    "no metric": ("cv", lambda row: row.update(decodings={"plain": {}})),
    "no class": ("multilabel", lambda row: row.update(per_class=[], map={})),
    "another share": ("fractions", lambda row: row.update(complexity={})),
    "no number for a share": ("fractions", lambda row: row.update(complexity={"most": 3}, complexity_ci={})),
    "no interval": ("multilabel", lambda row: row["map"]["step"].update(ci=None)),
    "no prediction": ("retrieval", lambda row: row.pop("predicted", None)),
    "no label": ("knn", lambda row: row.pop("labels", None)),
    "no accuracy": ("sgd", lambda row: row.pop("accuracy", None)),
    "no best epoch": ("sgd", lambda row: (row.pop("best_test", None), row.pop("by_epoch", None))),
    "no epoch": ("all-checkpoints", lambda row: row.pop("epoch", None)),
    "no score of a checkpoint": ("all-checkpoints", lambda row: row.update(scores={})),
    "no answer": ("reconstruction", lambda row: row.update(answers=[])),
    "no question": ("reconstruction", lambda row: row["answers"].pop(0)),
    "no spectrum": ("health", lambda row: row.update(singular_values={"centred": [], "uncentred": []}, deviation=[])),
    "no dimension": ("health", lambda row: row.update(dim=0, n=0)),
}


@pytest.mark.parametrize("which", LACKS)
def test_a_file_may_lack_much(which: str, tmp_path: Path) -> None:
    """Used without what it lacks, or left out in a line; never an error."""
    name, change = LACKS[which]
    runs = [add_further(make_run(tmp_path, run)) for run in "ab"]
    content = kept_result(runs[0], name)
    for row in content["rows"]:
        change(row)
    (runs[0].results / f"{STEMS.get(name, 'health-last')}.json").write_text(json.dumps(content))
    found = collect(runs)
    told = [line for line in found["runs"][0]["left_out"] if "was not used" in line]
    assert len(found["runs"][0]["results"][name]) + len(told) == 1
    html(build(found))
