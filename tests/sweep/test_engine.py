"""Sweeps on a cluster without one: what is refused, what a job does when it is asked to stop, what Slurm is asked.

Slurm's programs are scripts here; tests/sweep/test_slurm.py has the real ones. Alone: pytest tests/sweep/test_engine.py
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from probekit import cli
from probekit.locks import locked
from probekit.run import Run
from probekit.sweep import jobs, slurm, work
from probekit.sweep import request as asked_for
from probekit.sweep.plan import PlannedRun
from probekit.sweep.session import Session
from probekit.sweep.slurm import read_resources
from tests.forked import forked_children
from tests.sweep import stub
from tests.sweep.test_breaks import FILE, RUNS, sweep, wait_for

NAME = "s.toml"
HOUR = ("--engine", "slurm", "--slurm", "time=1:00:00")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep file, and Slurm's programs first on the PATH: each writes what it was asked to NAME.log."""
    (tmp_path / NAME).write_text(FILE)
    (tmp_path / "bin").mkdir()
    for name, answer in (("sbatch", "Submitted batch job 12"), ("squeue", ""), ("scontrol", ""), ("srun", "")):
        program(tmp_path, name, answer)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path


def program(home: Path, name: str, answer: str, code: int = 0) -> None:
    path = home / "bin" / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {home}/{name}.log\nprintf "%b" "{answer}"\nexit {code}\n')
    path.chmod(0o755)


def calls(home: Path, name: str) -> list[str]:
    log = home / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["time"], "expected --slurm KEY=VALUE, found 'time'; type: --slurm time=4:00:00"),
        (["partitoin=gpu"], "unknown key of --slurm 'partitoin'"),
        (["partitoin=gpu"], "did you mean 'partition'?"),
        (["time=soon"], "expected --slurm time=VALUE, as 4:00:00, 1-12:00:00 or, in minutes, 90, found 'soon'"),
        (["time=0"], "expected --slurm time=0 of a minute at least"),
        (["time=1", "time=2"], "expected --slurm time once, found 1 and 2"),
        (
            ["time=1", "cpus_per_task=some"],
            "expected --slurm cpus_per_task=VALUE, a whole number above 0, found 'some'",
        ),
        (["time=1", "gpus-per-node=a b"], "expected --slurm gpus_per_node=VALUE, a number of GPUs, as 4 or a100:4"),
        (["time=1", "mem=much"], "expected --slurm mem=VALUE, as 64G, found 'much'"),
        (["time=1", "partition=a\nb"], "expected --slurm partition=VALUE, text, found 'a\\nb'"),
        (["partition=gpu"], "expected the time limit of a run's job with --engine slurm; type: --slurm time=4:00:00"),
    ],
)
def test_what_sbatch_could_not_be_given_is_refused(home: Path, words: list[str], message: str) -> None:
    typed = [part for word in words for part in ("--slurm", word)]
    code, _, err = sweep(NAME, "--engine", "slurm", *typed, cwd=home)
    assert code == 1
    assert message in err
    assert not (home / "sweeps").exists()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("1:30", 2),
        ("4:00:00", 240),
        ("0:00:01", 1),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("2-00:00:30", 2881),
    ],
)
def test_time_limits_are_read_as_sbatch_does(text: str, minutes: int) -> None:
    assert read_resources([f"time={text}"]).minutes == minutes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slurm", "time=1"], "expected --slurm with --engine slurm, found it alone; type: --engine slurm"),
        ([*HOUR, "--limit-minutes", "3"], "expected --limit-minutes with --engine local, found slurm"),
        (["--status"], "expected the sweep in sweeps/s, found none; to start it leave --status out"),
    ],
)
def test_options_that_do_not_go_together(home: Path, arguments: list[str], message: str) -> None:
    code, _, err = sweep(NAME, *arguments, cwd=home)
    assert code == 1
    assert message in err


def test_without_slurm_or_submitit_one_line_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        code, _, err = sweep(NAME, *HOUR, cwd=home)
        assert code == 1
        assert err.startswith("error: expected sbatch on the PATH for --engine slurm, found none")
    monkeypatch.setitem(sys.modules, "submitit", None)
    code, _, err = sweep(NAME, *HOUR, cwd=home)
    assert code == 1
    assert err == "error: expected submitit for --engine slurm, found none; type: pip install 'submitit>=1.5'\n"
    assert not (home / "sweeps").exists()


def test_a_file_that_needs_more_gpus_than_a_job_has(home: Path) -> None:
    (home / NAME).write_text(FILE.replace("seeds =", "gpus = 8\nnodes = 2\nseeds ="))
    code, _, err = sweep(NAME, *HOUR, "--slurm", "gpus_per_node=a100:2", cwd=home)
    assert code == 1
    assert "type: --slurm gpus_per_node=4" in err
    code, _, err = sweep(NAME, cwd=home)
    assert "expected --engine slurm for nodes = 2 of s, found local" in err
    (home / NAME).write_text(FILE.replace("seeds =", "gpus = 3\nnodes = 2\nseeds ="))
    assert "expected gpus that nodes divides, found gpus = 3, nodes = 2" in sweep(NAME, cwd=home)[2]


def test_every_run_has_its_gpus(home: Path) -> None:
    (home / NAME).write_text(FILE.replace("seeds =", "gpus = 4\nseeds ="))
    with contextlib.chdir(home), stub.in_place():
        found = json.loads(CliRunner().invoke(cli.app, ["sweep", NAME, *HOUR, "--dry-run", "--json"]).stdout)
    assert all(" --gpus 4 && probekit probe " in run["command"] for run in found["runs"])
    assert {run["gpus"] for run in found["runs"]} == {4}
    assert "--preset paper" in found["runs"][0]["command"], "a machine with GPUs will train it"
    assert submitted(home) == {"nodes": "1", "gpus-per-node": "4", "ntasks-per-node": "1"}


def submitted(home: Path, *arguments: str) -> dict[str, str]:
    """What the script of a submission asks for, of that which depends on the number of GPUs."""
    code, _, err = sweep(NAME, *HOUR, *arguments, cwd=home)
    assert (code, err) == (0, "")
    [script] = (home / "sweeps/s/slurm").glob("*/*.sh")
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    asked = dict(line.partition("=")[::2] for line in lines)
    return {key: asked[key] for key in ("nodes", "gpus-per-node", "ntasks-per-node") if key in asked}


def test_what_sbatch_is_asked_for(home: Path) -> None:
    typed = ["partition=gpu", "cpus_per_task=4", "reservation=mine", "setup=module load cuda", "setup=ulimit -n 4096"]
    code, out, err = sweep(NAME, *HOUR, *(p for word in typed for p in ("--slurm", word)), "--jobs", "3", cwd=home)
    assert (code, err) == (0, "")
    assert "0 queued or running, 4 to be submitted" in out
    assert "submitted 4 runs as job 12; their state: probekit sweep s.toml --status" in out
    [script] = (home / "sweeps/s/slurm").glob("*/*.sh")
    text = script.read_text()
    for line in ("partition=gpu", "time=60", "array=0-3%3", "requeue", "signal=USR2@120", "cpus-per-task=4"):
        assert f"#SBATCH --{line}\n" in text
    assert "#SBATCH --reservation=mine\n" in text
    assert "\nmodule load cuda\nulimit -n 4096\n" in text
    assert " --cpus-per-task=4 " in text
    assert json.loads(next(script.parent.glob("runs.json")).read_text()) == {"runs": RUNS}
    assert not [path for path in script.parent.iterdir() if path.is_symlink()]


def test_what_waits_or_runs_is_not_submitted_again(home: Path) -> None:
    assert sweep(NAME, *HOUR, cwd=home)[0] == 0
    [folder] = (home / "sweeps/s/slurm").iterdir()
    lines = [f"12|0|RUNNING|{folder.name}|n1|None", f"12|2|PENDING|{folder.name}||Resources"]
    program(home, "squeue", "\\n".join([*lines, "7|1|RUNNING|another|n2|None", ""]))
    with contextlib.chdir(home), stub.in_place():
        done = CliRunner().invoke(cli.app, ["sweep", NAME, *HOUR, "--resume", "--json"])
        assert json.loads(done.stdout) == {"job": "12", "runs": [RUNS[1], RUNS[3]]}
        found = json.loads(CliRunner().invoke(cli.app, ["sweep", NAME, "--status", "--json"]).stdout)
    states = [(each["state"], each["where"]) for each in found["status"]]
    assert states == [
        ("running", "job 12_0, n1"),
        ("not begun", ""),
        ("queued", "job 12_2, Resources"),
        ("not begun", ""),
    ]
    code, _, err = sweep(NAME, *HOUR, "--overwrite", cwd=home)
    assert code == 1
    assert "expected no jobs of sweeps/s in Slurm's queue, found 12; scancel them first" in err
    program(home, "squeue", "", code=1)
    assert sweep(NAME, *HOUR, "--resume", cwd=home)[2].startswith("error: expected an answer of squeue, found: ")
    assert "warning: Slurm's queue is not known" in sweep(NAME, "--status", "--engine", "slurm", cwd=home)[1]
    there = folder / "runs.json"
    for answer, content in (("Welcome", None), (f"12|0|RUNNING|{folder.name}|n1|None", '{"runs": 3}')):
        program(home, "squeue", answer)
        there.write_text(content or there.read_text())
        code, _, err = sweep(NAME, *HOUR, "--resume", cwd=home)
        assert (code, len(err.splitlines())) == (1, 1)
        assert (
            "of squeue, found: 'Welcome'" if content is None else "; wait until its jobs are over, or end them: sca"
        ) in err


@pytest.fixture
def job(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[work.Work]:
    """The first run's job, as it is called on its node; its children are stubs."""
    monkeypatch.setattr(work, "LATER", 0.2)
    monkeypatch.setattr(work, "BEAT", 0.2)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    made: list[Any] = []

    def submit(session: Session, runs: Sequence[PlannedRun], resources: object, at_once: object) -> str:
        made.append((session, runs))
        return "12"

    monkeypatch.setattr(slurm, "submit", submit)
    code, _, err = sweep(NAME, *HOUR, "--preset", "quick", "--epochs", "4", cwd=home)
    assert (code, err) == (0, "")
    session, runs = made[0]
    found = work.Work(runs[0], session.folder, session.runs, session.data["rt"].path, "cpu", True, 60)
    with contextlib.chdir(home), stub.in_place(), forked_children(stub.main):
        yield found


def after_a_while(number: signal.Signals, there: Path) -> None:
    """Sends this process a signal once a file is there."""

    def send() -> None:
        wait_for(there.exists)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def test_a_job_does_all_that_its_run_needs(job: work.Work, home: Path) -> None:
    job()
    assert job.place.read()["state"] == "finished"
    log = job.folder.log(RUNS[0]).read_text()
    assert [line.split()[2] for line in log.splitlines() if line.startswith("$")] == [
        "pretrain",
        "probe",
        "probe",
        "probe",
    ]
    assert calls(home, "scontrol") == []
    assert "1 finished, 3 not begun" in sweep(NAME, "--status", cwd=home)[1]
    assert json.loads((home / "sweeps/s/results.json").read_text())["finished"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_a_job_that_is_to_stop_saves_and_begins_again(
    job: work.Work, home: Path, number: signal.Signals, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it was cancelled, or Slurm has requeued it by itself."""
    monkeypatch.setenv("STUB_HOLD", "2")
    program(home, "squeue", f"{state}\\n")
    after_a_while(number, job.place.checkpoints / "last.pt")
    with pytest.raises(SystemExit) as ended:
        job()
    assert ended.value.code == work.REQUEUED
    assert job.place.read()["state"] == "interrupted"
    assert calls(home, "scontrol") == (["requeue 12_0"] if state == "RUNNING" else [])
    monkeypatch.delenv("STUB_HOLD")
    job()
    assert "pretrain --resume" in job.folder.log(RUNS[0]).read_text()
    assert [line["epoch"] for line in job.place.read_metrics()] == [1, 2, 3, 4]


def test_a_job_that_gets_nowhere_within_its_limit_is_not_begun_again(
    job: work.Work, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_HOLD", "1")
    program(home, "squeue", "RUNNING\\n")
    after_a_while(signal.SIGUSR2, job.place.json)
    with pytest.raises(RuntimeError, match="nothing could be saved within the time limit of 60 min"):
        job()
    assert calls(home, "scontrol") == []


def test_a_job_waits_for_who_holds_its_run(job: work.Work, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that Slurm gave up, on a node that it lost sight of, trains on."""
    job()
    shutil.rmtree(job.place.results)
    job.place.results.mkdir()
    held = job.place.locked("train")
    held.__enter__()
    ended: list[bool] = []

    def end() -> None:
        ended.append(True)
        held.__exit__(None, None, None)

    threading.Timer(1.0, end).start()
    job()
    assert ended
    assert f"{RUNS[0]} is held by process {os.getpid()} on " in capsys.readouterr().out


def test_a_run_that_fails_fails_its_job(job: work.Work, home: Path) -> None:
    (home / "sweeps/s/data/rt.h5").unlink()
    with pytest.raises(RuntimeError, match=rf"{RUNS[0]}: failed: .*; see sweeps/s/logs/{RUNS[0]}.log"):
        job()


def test_each_of_several_nodes_starts_torchrun_and_the_first_does_the_rest(
    job: work.Work, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], str, list[str]]] = []

    def start(command: list[str], log: Path, environment: dict[str, str], several: list[str]) -> SimpleNamespace:
        started.append((command, log.name, several))
        assert environment["OMP_NUM_THREADS"] == "4", "four processes on the 16 cores of each node"
        return SimpleNamespace(poll=lambda: 1, send_signal=lambda number: None)

    monkeypatch.setattr(jobs, "start", start)
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    both = replace(job, run=replace(job.run, gpus=8, nodes=2))
    for node, name in (("0", f"{RUNS[0]}.log"), ("1", f"{RUNS[0]}.1.log")):
        monkeypatch.setenv("SLURM_PROCID", node)
        with pytest.raises(RuntimeError, match="failed") if node == "0" else contextlib.nullcontext():
            both()
        command, log, several = started.pop()
        assert not started
        assert command[:2] == ["pretrain", "simclr"]
        assert log == name
        assert several == [
            "-m",
            "torch.distributed.run",
            "--nnodes=2",
            "--nproc-per-node=4",
            f"--node-rank={node}",
            "--master-addr=10.0.0.1",
            "--master-port=20077",
        ]


def test_a_node_without_the_shared_folder_says_so(job: work.Work, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        contextlib.chdir(tmp_path_factory.mktemp("elsewhere")),
        pytest.raises(RuntimeError, match=r"expected .*sweep.json"),
    ):
        job()


def test_status_while_this_machine_works_writes_nothing(home: Path) -> None:
    assert sweep(NAME, "--preset", "quick", "--epochs", "4", "--only", "simclr", cwd=home)[0] == 0
    folder = home / "sweeps/s"
    (folder / "results.json").unlink()
    with (
        contextlib.chdir(home),
        locked(Path("sweeps/.s.lock"), "it"),
        Run(Path("runs") / RUNS[0]).locked("probe"),
    ):
        code, out, err = sweep(NAME, "--status", cwd=home)
    assert (code, err) == (0, "")
    assert "sweep s: 1 running, 2 not begun, 1 finished" in out or "1 running, 1 finished, 2 not begun" in out
    assert not (folder / "results.json").exists()
    assert "wrote " in sweep(NAME, "--status", cwd=home)[1]
    assert asked_for.Options.status is False
