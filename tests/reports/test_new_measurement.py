"""A measurement that is one class and one line of the registry: it is found everywhere, and nothing else knows of it.

Alone: pytest tests/reports/test_new_measurement.py
"""

import importlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from probekit.cli import app, measuring
from probekit.device import choose_device
from probekit.h5 import read_info
from probekit.measurement import Count, Named, Result, Row, Score, Share, option, rows_table
from probekit.output.document import Table, by, percent
from probekit.probes.measure import Conditions, Source
from probekit.probes.measurements.base import Probe
from probekit.registry import MEASUREMENTS
from probekit.restore.opened import open_encoder
from probekit.run import Run
from probekit.sweep.datasets import Data
from probekit.sweep.definition import parse
from probekit.sweep.plan import commands_left, plan_runs
from probekit.sweep.results import collect
from probekit.sweep.table import markdown
from probekit.weights import RANDOM, Weights
from tests.typed import typed

SMALL = ("model.width=2", "model.depth=2", "train.batch_size=4")
SWEEP = f"""# A new measurement.
seeds = [0]
set = {json.dumps(SMALL)}
[measure.active]
above = 0.25
[[datasets]]
name = "rt"
generator = "rect-tri"
[[rows]]
method = "simclr"
"""
NAME = "s-rt-simclr-seed0"  # as the sweep calls its run


class ActiveRow(Named):
    """A source's share of active features."""

    n: Count
    active: Share


@dataclass(frozen=True)
class Active(Probe):
    """How many features of the test images are above a threshold."""

    above: float = option(0.0, "--above", "The threshold of --active.")

    name = "active"
    title = "Active features"
    help = "Also the share of active features."
    about = "The share of features of the test images above {above}; no intervals."
    shape = ActiveRow
    needs = ()
    baselines = (RANDOM,)
    fits = False

    def row(self, source: Source, conditions: Conditions) -> dict[str, Any]:
        """One share."""
        x = source.features("test")
        return {"name": source.name, "kind": source.kind, "n": len(x), "active": float((x > self.above).mean())}

    def tables(self, result: Result) -> list[Table]:
        """One."""
        return [rows_table("shares", self.title, {"active %": by("active", percent)}, result["rows"])]

    def scores(self, row: Row) -> dict[str, Score]:
        """One."""
        return {"active": Score(row["active"], None)}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One line of the registry, before the command line is made of it."""
    plain = list(app.registered_commands)
    monkeypatch.setattr(typer.main, "get_command", getattr(typer.main.get_command, "__wrapped__"))  # noqa: B009
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MEASUREMENTS, "active", f"{__name__}:Active")
        importlib.reload(measuring)
        yield
    importlib.reload(measuring)
    app.registered_commands[:] = plain


def type_in(home: Path, *words: str) -> str:
    done = typed(*words, cwd=home)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.usefixtures("known", "plain_pictures")
def test_it_appears_everywhere(tmp_path: Path) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    type_in(tmp_path, "gen", "rect-tri", "--n", "16", "--n-test", "12", "--size", "16", "--workers", "1")
    train = ["--preset", "quick", "--epochs", "1", "--name", NAME, *settings]
    type_in(tmp_path, "pretrain", "simclr", "--data", "data/rect-tri.h5", *train)
    asked = " ".join(typed("probe", "--help", cwd=tmp_path).stdout.split())
    assert "Also the share of active features." in asked
    assert "The threshold of --active." in asked

    shown = type_in(tmp_path, "probe", NAME, "--active", "--above", "0.25")
    run = Run(tmp_path / "runs" / NAME)
    result = json.loads((run.results / "active-last.json").read_text())
    opened = open_encoder(run, Weights(), choose_device("cpu"))
    expected = float(np.mean(opened.embed(read_info(tmp_path / "data/rect-tri.h5"), "test") > 0.25))
    assert [row["name"] for row in result["rows"]] == ["simclr last", RANDOM]
    assert result["rows"][0]["active"] == pytest.approx(expected)
    assert result["command"] == f"probekit probe {NAME} --active --above 0.25"
    assert "The share of features of the test images above 0.25; no intervals." in shown
    assert f"simclr last {100 * expected:.1f}" in shown

    type_in(tmp_path, "report", NAME, "--format", "md", "--out", "report.md")
    section = (tmp_path / "report.md").read_text().split("### Active features\n")[1].split("\n### ")[0]
    assert f"| simclr last | {100 * expected:.1f} |" in section
    assert f"Again: `probekit probe {NAME} --active --above 0.25`" in section
    unmeasured = collected_without(tmp_path, "active-last.json")
    assert "active features" in unmeasured
    assert "--active" in unmeasured

    shutil.copytree(run.path, tmp_path / "runs/other")
    compared = json.loads(typed("compare", NAME, "other", "--json", cwd=tmp_path).stdout)
    (group,) = [group for group in compared["scores"] if group["measurement"] == "active"]
    assert group["options"] == {"above": 0.25}
    (score,) = group["scores"]
    assert (score["score"], [row["value"] for row in score["runs"]]) == ("active", [pytest.approx(expected)] * 2)
    assert "Active features: data/rect-tri.h5" in type_in(tmp_path, "compare", NAME, "other")

    in_a_sweep(run, expected)


def collected_without(home: Path, file: str) -> str:
    """A report of a copy of the run that lacks a result."""
    shutil.copytree(home / "runs" / NAME, home / "runs/bare")
    (home / "runs/bare/results" / file).unlink()
    return type_in(home, "report", "bare", "--format", "md").partition("Not measured yet")[2]


def in_a_sweep(run: Run, expected: float) -> None:
    """What was measured by hand is what the sweep file asks for: nothing is left to do, and its table has the score."""
    sweep = parse("s", SWEEP, where="s.toml")
    planned = plan_runs(sweep, "s", preset="quick", epochs=1, seeds=[0])
    (step,) = planned[0].measure.steps
    assert step.words(NAME, "cpu") == [*f"probe {NAME} --no-baselines --active --above 0.25 --device cpu".split()]
    assert not commands_left(run, planned[0], data="data/rect-tri.h5", device="cpu")
    about = Data(
        path="data/rect-tri.h5",
        hash=run.read()["dataset"]["hash"],
        origin="drawn",
        n_train=16,
        n_test=12,
        evidence=True,
    )
    found = collect("s", sweep, planned, {"rt": about}, runs=run.path.parent, outcomes={})
    assert found["rows"][0]["scores"]["last/active"]["mean"] == pytest.approx(expected)
    assert [entry["name"] for entry in found["baselines"] if entry["score"] == "active"] == [RANDOM]
    assert "| active |" in markdown(found)
