"""`probekit sweep` as a user types it, on small data, with real runs; tests/sweep/test_breaks.py breaks it off.

Alone: pytest tests/sweep/test_command.py
"""

import json
from pathlib import Path
from typing import Any

import pytest

from probekit.cli.catalogue import catalogue
from probekit.run import Run
from probekit.sweep.definition import shipped
from tests.forked import forked_children, probekit_of_few_strengths
from tests.guard.walk import SWEEP
from tests.typed import typed

pytestmark = pytest.mark.usefixtures("few_strengths")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a sweep of two methods has been typed once."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.toml").write_text(SWEEP)
    with forked_children(probekit_of_few_strengths):
        done = typed(
            "sweep", "small.toml", "--epochs", "2", "--preset", "quick", "--jobs", "2", "--log", "csv", cwd=folder
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join(done.stdout.split()).count("by the monitor at best_test") >= 2
    return folder


def test_every_run_is_finished_and_probed(home: Path) -> None:
    found: dict[str, Any] = json.loads((home / "sweeps/small/results.json").read_text())
    assert found["finished"] == found["planned"] == 2
    for run in found["runs"]:
        assert run["scores"].keys() == {"last/linear", "last/monitor", "best_val/monitor", "best_test/monitor"}
        assert Run(home / "runs" / run["name"]).read()["threads"] == 1
        assert (home / "runs" / run["name"] / "metrics.csv").exists(), "its logger's"
    beside = {(baseline["score"], baseline["name"]) for baseline in found["baselines"]}
    assert {("linear", "patch bag"), ("monitor", "patch bag"), ("linear", "random weights")} <= beside
    assert {row["row"]: row["factors"].keys() for row in found["rows"]} == {
        "simclr": {"corner", "triangle"},
        "conrec": {"corner", "triangle"},
    }


def test_last_of_the_monitor_is_what_the_probe_finds(home: Path) -> None:
    """Both are protocol `fixed` at the last epoch; the baselines were measured beside the first run."""
    probe = json.loads((home / "runs/small-rt-simclr-seed0/results/linear-fixed-last.json").read_text())
    found = json.loads((home / "sweeps/small/results.json").read_text())
    scores = next(run["scores"] for run in found["runs"] if run["name"] == "small-rt-simclr-seed0")
    assert scores["last/monitor"] == probe["rows"][0]["accuracy"]


def test_the_table_has_every_row(home: Path) -> None:
    table = (home / "sweeps/small/table.md").read_text()
    assert table.startswith("# small\n")
    lines = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    for name in ("simclr", "conrec", "*patch bag*", "*chance*", "conrec - simclr"):
        assert name in lines
    assert "not testable" in table
    assert "2 of 2 runs finished" in table


def test_without_a_name_it_lists_what_is_shipped(tmp_path: Path) -> None:
    done = typed("sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in shipped())
    assert "next: probekit sweep table1" in done.stdout
    assert not list(tmp_path.iterdir())
    listed = catalogue(("sweeps",))["sweeps"]
    assert [entry["name"] for entry in listed] == list(shipped())
    assert next(entry["runs"] for entry in listed if entry["name"] == "table1") == 30
