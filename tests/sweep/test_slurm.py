"""A sweep on a real Slurm of two nodes (cluster.py): whatever ends its jobs, the results are those of this machine.

Alone: pytest tests/sweep/test_slurm.py
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probekit.run import Run
from tests.forked import forked_children
from tests.sweep.cluster import Cluster, cluster, lacking, wait_for
from tests.typed import typed

# The first two runs are stopped in the middle, so these take some seconds.
FILE = """# Six runs.
seeds = [0]
preset = "quick"
set = ["train.batch_size=8", "train.eval_every=10", "model.width=4", "model.depth=2", "train.precision=fp32"]
[[datasets]]
name = "rt"
generator = "rect-tri"
n = 32
n_test = 16
size = 16
[cross]
methods = ["simclr"]
overrides.long = ["train.epochs=200"]
overrides.longer = ["train.epochs=200", "optimizer.lr=0.001"]
overrides.a = ["train.epochs=2"]
overrides.b = ["train.epochs=2", "optimizer.lr=0.001"]
overrides.c = ["train.epochs=2", "optimizer.lr=0.002"]
overrides.d = ["train.epochs=2", "optimizer.lr=0.003"]
"""
RUNS = [f"s-rt-simclr-{name}-seed0" for name in ("long", "longer", "a", "b", "c", "d")]
SLURM = ("--engine", "slurm", "--slurm", "time=30", "--slurm", "partition=cpu")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    if why := lacking():
        pytest.skip(why)
    with cluster() as found:
        yield found


@pytest.fixture
def home(tmp_path: Path, two_nodes: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, two_nodes.environment[name])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "s.toml").write_text(FILE)
    return tmp_path


def saved(home: Path, run: str) -> bool:
    return (Run(home / "runs" / run).checkpoints / "last.pt").exists()


def made(home: Path) -> dict[str, bytes]:
    """All that the runs came to: weights, metrics, results."""
    paths = [
        path for run in RUNS for path in (home / "runs" / run).rglob("*") if path.suffix in (".safetensors", ".jsonl")
    ]
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


def printed(home: Path) -> str:
    """What the jobs said."""
    return "".join(path.read_text() for path in (home / "sweeps/s/slurm").rglob("*.out"))


def scores(home: Path) -> dict[str, Any]:
    found = json.loads((home / "sweeps/s/results.json").read_text())
    return {key: found[key] for key in ("rows", "baselines", "pairs", "runs")}


@pytest.mark.timeout(1800)  # ours: a minute on two idle cores, and half an hour beside twenty times their work
def test_jobs_that_are_stopped_and_lost_end_as_on_this_machine(
    home: Path, two_nodes: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = typed("sweep", "s.toml", *SLURM, "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    submitted = json.loads(done.stdout)
    assert submitted["runs"] == RUNS
    job = submitted["job"]

    # One is asked to stop: saved, and begun again by Slurm. The node of another one is gone.
    wait_for(lambda: saved(home, RUNS[0]), "the first run's first checkpoint")
    two_nodes.ask_to_stop(f"{job}_0", heard=lambda: "SIGTERM, all saved" in printed(home))
    wait_for(lambda: saved(home, RUNS[1]), "the second run's first checkpoint")
    node = two_nodes.node(f"{job}_1")
    two_nodes.lose(node)

    # A second submission, while the first one waits and runs.
    again = typed("sweep", "s.toml", *SLURM, "--resume", "--json", cwd=home)
    assert json.loads(again.stdout) == {"job": None, "runs": []}, again.stderr
    found = json.loads(typed("sweep", "s.toml", "--status", "--json", cwd=home).stdout)["status"]
    assert [each["name"] for each in found] == RUNS
    assert {each["state"] for each in found} <= {"running", "queued", "finished"}
    assert any(each["state"] == "queued" and each["where"].startswith(f"job {job}_") for each in found)

    wait_for(lambda: two_nodes.states()[node].startswith("down"), "the end of a node")
    two_nodes.start_node(node)

    wait_for(lambda: not two_nodes.jobs(), "the end of all jobs")
    assert f"{RUNS[0]}: SIGTERM, all saved; Slurm has the job as RUNNING" in printed(home)
    logs = [(home / f"sweeps/s/logs/{run}.log").read_text() for run in RUNS]
    assert [log.count("$ probekit pretrain") for log in logs] == [2, 2, 1, 1, 1, 1]
    assert [log.count("$ probekit pretrain --resume") for log in logs] == [1, 1, 0, 0, 0, 0]

    done = typed("sweep", "s.toml", "--status", cwd=home)
    assert "6 finished" in done.stdout
    here = tmp_path_factory.mktemp("here")
    (here / "s.toml").write_text(FILE)
    with forked_children():
        assert typed("sweep", "s.toml", "--jobs", "2", cwd=here).returncode == 0
    assert scores(home) == scores(here)
    assert made(home) == made(here)
    assert len(made(here)) == 12


def test_what_sbatch_refuses_is_one_line(home: Path) -> None:
    done = typed("sweep", "s.toml", "--engine", "slurm", "--slurm", "time=30", "--slurm", "partition=nowhere", cwd=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected sbatch to take the jobs, found: ")
    assert "partition" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [*(home / "sweeps/s/slurm").glob("*/*")]
    assert os.environ.get("SLURM_JOB_ID") is None
