"""What ends a sweep early, and what going on with it gives: the same scores as a sweep that nothing ended.

The children are stubs (stub.py), so that it takes no training; tests/sweep/test_command.py has the real ones.
Alone: pytest tests/sweep/test_breaks.py
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from probekit import cli
from probekit.locks import holder
from probekit.run import Run
from probekit.sweep import jobs
from probekit.sweep.folder import SweepFolder
from tests.forked import SERVER, forked_children, probekit, typed
from tests.sweep import stub

FILE = """# Two rows, two seeds.
seeds = [0, 1]
set = ["train.precision=fp32"]  # "auto" is settled with torch, which the stubs do without
pairs = [["conrec", "simclr"]]
[[datasets]]
name = "rt"
generator = "rect-tri"
n = 8
n_test = 4
size = 16
[[rows]]
method = "simclr"
[[rows]]
method = "conrec"
[[paper]]
source = "nobody"
score = "best_test/monitor"
percent.rt = { conrec = 50 }
"""
RUNS = [f"s-rt-{row}-seed{seed}" for seed in (0, 1) for row in ("simclr", "conrec")]
ASK = ("--preset", "quick", "--epochs", "4", "--jobs", "2")


def sweep_as_a_command() -> None:
    """In a child: its own children are started as anybody's, as scripts, and hold before their second epoch."""
    os.environ["STUB_HOLD"] = "2"
    with stub.in_place():
        probekit()


@contextlib.contextmanager
def begun(*arguments: str, cwd: Path) -> Iterator[BaseProcess]:
    """A sweep at work in a child, of runs that hold; its errors are in `err`."""
    files = {"out": cwd / "out", "err": cwd / "err"}
    process = SERVER.Process(target=typed, args=(sweep_as_a_command, "sweep", *arguments), kwargs={"cwd": cwd, **files})
    process.start()
    yield process
    process.join()


def sweep(*arguments: str, cwd: Path, hold: int = 0) -> tuple[int, str, str]:
    """The sweep command in this process, with stubs as its children: exit code, output, error.

    `hold`: the epoch before which they wait to be stopped.
    """
    held = patch.dict(os.environ, STUB_HOLD=str(hold))
    with contextlib.chdir(cwd), stub.in_place(), forked_children(stub.main), held:
        done = CliRunner().invoke(cli.app, ["sweep", *arguments])
    if done.exception is not None and not isinstance(done.exception, ValueError):
        raise done.exception
    out = done.stdout if "--dry-run" in arguments else done.output  # commands, for a shell, and nothing else
    return done.exit_code, out, f"error: {done.exception}\n" if done.exception else ""


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 150
    while not there():
        assert time.monotonic() < until
        time.sleep(0.02)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "sweeps/s/results.json").read_text())
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "s.toml").write_text(FILE)
    code, out, err = sweep("s.toml", *ASK, cwd=folder)
    assert (code, err) == (0, "")
    assert out.count("\n[") == 4  # a line a finished run
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "s.toml").write_text(FILE)
    return tmp_path


def at_work(folder: Path, runs: int = 2) -> bool:
    """Whether so many runs have a checkpoint."""
    return len(list(folder.glob("runs/*/checkpoints/last.pt"))) >= runs


def test_results_are_what_the_runs_scored(unbroken: Path) -> None:
    found = results(unbroken)
    assert (found["schema"], found["planned"], found["finished"]) == ("probekit-sweep/1", 4, 4)
    assert [run["name"] for run in found["runs"]] == RUNS
    row = next(row for row in found["rows"] if row["row"] == "conrec")
    names = ["s-rt-conrec-seed0", "s-rt-conrec-seed1"]
    assert row["scores"]["last/linear"]["values"] == {
        str(seed): stub.share(name, "tuned") for seed, name in enumerate(names)
    }
    best = {str(seed): max(stub.share(name, epoch, "test") for epoch in range(1, 5)) for seed, name in enumerate(names)}
    assert row["scores"]["best_test/monitor"]["values"] == best
    assert row["paper"][0]["difference"] == pytest.approx(sum(best.values()) / 2 - 0.5)
    assert {(found["score"], found["name"]) for found in found["baselines"]} == {
        ("linear", "chance"),
        ("monitor", "chance"),
    }
    assert len(found["pairs"]) == 4
    assert not any(pair["testable"] for pair in found["pairs"])


def test_a_finished_sweep_is_neither_begun_again_nor_changed(unbroken: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("runs/**/*")}
    code, _, err = sweep("s.toml", cwd=unbroken)
    assert code == 1
    assert "type --resume to go on with it, --overwrite to start again" in err
    code, out, err = sweep("s.toml", "--resume", cwd=unbroken)
    assert (code, err) == (0, "")
    assert "0 runs to do, 4 of 4 are finished" in out
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("runs/**/*")} == before


def test_json_is_the_results_and_nothing_else(unbroken: Path) -> None:
    with contextlib.chdir(unbroken), stub.in_place():
        done = CliRunner().invoke(cli.app, ["sweep", "s.toml", "--resume", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == results(unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resume_ends_the_same(home: Path, unbroken: Path, number: signal.Signals) -> None:
    with begun("s.toml", *ASK, cwd=home) as process:
        wait_for(lambda: at_work(home))
        assert process.pid is not None
        os.kill(process.pid, number)
    assert process.exitcode == 1
    assert (home / "err").read_text() == (
        "error: stopped by a signal, 0 of 4 runs finished, all saved; to go on type: probekit sweep s.toml --resume\n"
    )
    states = [json.loads(path.read_text())["state"] for path in home.glob("runs/*/run.json")]
    assert states == ["interrupted", "interrupted"]
    code, _, err = sweep("s.toml", "--resume", cwd=home)
    assert (code, err) == (0, "")
    assert results(home) == results(unbroken)
    assert any("--resume" in log.read_text() for log in home.glob("sweeps/s/logs/*.log"))  # what had a checkpoint


def test_a_killed_sweep_goes_on_and_ends_the_same(home: Path, unbroken: Path) -> None:
    """Its children live on and hold their runs, so that none is trained twice at once."""
    with begun("s.toml", *ASK, cwd=home) as process:
        wait_for(lambda: at_work(home))
        process.kill()
    code, _, err = sweep("s.toml", "--resume", cwd=home)
    assert code == 1
    assert "expected runs/s-rt-simclr-seed0 for this command alone, found process " in err
    (home / "go").touch()
    locks = [Run(home / "runs" / name).lock("train") for name in RUNS]
    wait_for(lambda: not any(map(holder, locks)))
    code, _, err = sweep("s.toml", "--resume", cwd=home)
    assert (code, err) == (0, "")
    assert results(home) == results(unbroken)
    metrics = (home / "runs/s-rt-simclr-seed0/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == [1, 2, 3, 4]


def test_a_time_limit_saves_and_stops(home: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is over once two runs are at work."""
    clock = SimpleNamespace(sleep=time.sleep, monotonic=lambda: time.monotonic() + 3600 * at_work(home))
    monkeypatch.setattr(jobs, "time", clock)
    code, _, err = sweep("s.toml", *ASK, "--only", "rt", "--limit-minutes", "60", cwd=home, hold=2)
    assert code == 1
    assert err.endswith(" probekit sweep s.toml --resume --only rt\n")
    assert err.startswith("error: stopped by the time limit, 0 of 4 runs finished, all saved; to go on type:")
    assert not (home / "runs" / RUNS[-1]).exists()
    states = [json.loads(path.read_text())["state"] for path in home.glob("runs/*/run.json")]
    assert states == ["interrupted", "interrupted"]
    assert (home / "sweeps/s/table.md").exists()
    assert sweep("s.toml", "--resume", cwd=home)[0] == 0
    assert results(home) == results(unbroken)


def test_runs_brought_from_elsewhere_without_checkpoints_and_logs_are_finished(unbroken: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(unbroken, home, ignore=shutil.ignore_patterns("checkpoints", "logs"))
    code, out, err = sweep("s.toml", "--resume", cwd=home)
    assert (code, err) == (0, "")
    assert "0 runs to do" in out
    assert results(home) == results(unbroken)
    assert not list(home.glob("runs/*/checkpoints"))


def test_a_dataset_that_was_deleted_is_made_anew(unbroken: Path, tmp_path: Path) -> None:
    home, file = tmp_path / "home", Path("sweeps/s/data/rt.h5")
    shutil.copytree(unbroken, home)
    (home / file).unlink()
    assert sweep("s.toml", "--resume", cwd=home)[0] == 0
    assert not (home / file).exists(), "nothing needs it"
    shutil.rmtree(home / "runs/s-rt-conrec-seed1")
    _, out, _ = sweep("s.toml", "--resume", "--dry-run", cwd=home)
    assert out.startswith("probekit sweep s.toml --preset=quick"), "the line that makes it"
    code, out, err = sweep("s.toml", "--resume", cwd=home)
    assert (code, err) == (0, "")
    assert (home / file).read_bytes() == (unbroken / file).read_bytes()
    assert results(home) == results(unbroken)


def test_loggers_are_of_every_run_and_stay_with_the_sweep(home: Path) -> None:
    code, out, _ = sweep("s.toml", *ASK, "--log", "csv", "--dry-run", cwd=home)
    assert code == 0
    trained = [line for line in out.splitlines() if "probekit pretrain" in line]
    assert len(trained) == 4
    assert all("--log csv" in line for line in trained)
    assert "--log=csv" in out.splitlines()[0], "the line that makes the folder"
    assert sweep("s.toml", *ASK, "--log", "csv", "--limit-minutes", "0", cwd=home)[0] == 1
    for typed_again, kept in (((), "csv"), (("--log", "none"), "none"), ((), "none")):
        assert sweep("s.toml", "--resume", *typed_again, "--limit-minutes", "0", cwd=home)[0] == 1
        _, out, _ = sweep("s.toml", "--resume", "--dry-run", cwd=home)
        assert out.count(f"--log {kept}") == 4
    _, _, err = sweep("s.toml", *ASK, "--log", "cvs", "--name", "t", cwd=home)
    assert "unknown logger 'cvs'" in err
    assert not (home / "sweeps/t").exists()


def test_two_sweeps_of_one_name_never_work_at_once(home: Path) -> None:
    with begun("s.toml", *ASK, cwd=home) as process:
        wait_for(lambda: at_work(home, 1))
        code, _, err = sweep("s.toml", "--resume", cwd=home)
        assert code == 1
        assert "expected sweeps/s for this command alone, found process " in err
        process.terminate()


def test_a_dry_run_prints_what_shells_can_run_in_any_order(
    home: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes nothing; its lines give the very results of the sweep, and then only the last one is left."""
    code, out, err = sweep("s.toml", "--preset", "quick", "--epochs", "4", "--dry-run", cwd=home)
    assert (code, err) == (0, "")
    assert [path.name for path in home.iterdir()] == ["s.toml"]
    first, *lines, last = (line.removeprefix("probekit ") for line in out.splitlines())
    assert [line.count(" && ") for line in lines] == [1] * 4
    assert sweep(*shlex.split(first)[1:], cwd=home)[0] == 1  # its limit
    monkeypatch.chdir(home)
    for word in (word for line in reversed(lines) for word in line.split(" && ")):
        monkeypatch.setattr(sys, "argv", ["stub", *shlex.split(word.removeprefix("probekit "))])
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)
        stub.main()
    monkeypatch.undo()
    assert sweep(*shlex.split(last)[1:], "--dry-run", cwd=home)[1] == f"probekit {last}\n"
    more = sweep(*shlex.split(last)[1:], "--seeds", "5", "--dry-run", cwd=home)[1].splitlines()[-1]
    assert more == f"probekit {last} --seeds 5", "a dry run keeps no seed in sweep.json"
    assert sweep(*shlex.split(last)[1:], cwd=home)[0] == 0
    assert results(home) == results(unbroken)


def test_what_fails_does_not_stop_the_rest(home: Path) -> None:
    broken = '[[rows]]\nname = "bad"\nmethod = "simclr"\nset = ["method.alpha=13"]\n'
    broken += '[[rows]]\nname = "dead"\nmethod = "simclr"\nset = ["method.alpha=14"]\n[[rows]]\nmethod = "conrec"'
    (home / "s.toml").write_text(FILE.replace('[[rows]]\nmethod = "conrec"', broken))
    code, out, err = sweep("s.toml", *ASK, "--seeds", "0", cwd=home)
    assert code == 1
    assert "s-rt-bad-seed0: failed: error: expected a finite loss, found nan" in out
    assert "s-rt-dead-seed0: interrupted: killed by SIGKILL" in out
    assert err == (
        "error: s-rt-bad-seed0, s-rt-dead-seed0 did not finish; the logs are in sweeps/s/logs; "
        "to try again type: probekit sweep s.toml --resume\n"
    ) or err.startswith("error: s-rt-dead-seed0, s-rt-bad-seed0")
    states = {run["row"]: run["state"] for run in results(home)["runs"]}
    assert states == {"simclr": "finished", "bad": "failed", "dead": "interrupted", "conrec": "finished"}
    table = (home / "sweeps/s/table.md").read_text()
    assert "s-rt-bad-seed0 (failed), s-rt-dead-seed0 (interrupted)" in table
    code, _, err = sweep("s.toml", "--resume", cwd=home)  # the killed one goes on from its checkpoint
    states = {run["row"]: run["state"] for run in results(home)["runs"]}
    assert states == {"simclr": "finished", "bad": "failed", "dead": "finished", "conrec": "finished"}


def test_baselines_stand_beside_the_first_run_that_does_not_fail(home: Path) -> None:
    (home / "s.toml").write_text(FILE.replace('method = "simclr"\n', 'method = "simclr"\nset = ["method.alpha=13"]\n'))
    assert sweep("s.toml", *ASK, "--seeds", "0", cwd=home)[0] == 1
    assert "probe s-rt-conrec-seed0 --device auto" in (home / "sweeps/s/logs/rt-baselines.log").read_text()
    assert len(results(home)["baselines"]) == 2


def test_seeds_are_added_and_rows_chosen_later(home: Path, unbroken: Path) -> None:
    assert sweep("s.toml", *ASK, "--seeds", "0", "--only", "simclr", cwd=home)[0] == 0
    assert [path.name for path in (home / "runs").iterdir()] == ["s-rt-simclr-seed0"]
    assert results(home)["finished"] == 1
    code, out, _ = sweep("s.toml", "--resume", "--seeds", "1", cwd=home)
    assert code == 0
    assert "3 runs to do, 1 of 4 are finished" in out
    assert results(home) == results(unbroken)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "--epochs", "7"], "was started with --epochs 4, found 7"),
        (["--resume", "--preset", "paper"], "was started with --preset quick, found paper"),
        (["--resume", "--set", "method.alpha=3"], "was started with no --set"),
        (["--resume", "--overwrite"], "expected --resume or --overwrite, found both"),
        (["--dry-run", "--overwrite"], "expected --dry-run or --overwrite, found both"),
        (["--resume", "--only", "byol"], "expected --only part of rt, simclr, conrec"),
        (["--name", "s", "--seeds", "0,1,x", "--overwrite"], "expected --seeds as 0,1,2"),
        (["--name", "a/b"], "expected --name = a name of at most 60 letters"),
        (["--name", "t", "--published", "."], "has no published sets; leave --published out"),
        (["--name", "t", "--preset", "quick", "--set", "train.epoch=3"], "did you mean 'train.epochs'"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(unbroken: Path, arguments: list[str], message: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}
    code, _, err = sweep("s.toml", *arguments, cwd=unbroken)
    assert (code, err.count("\n")) == (1, 1), err
    assert message in err
    assert {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")} == before


def test_runs_of_other_settings_are_never_mixed_in(home: Path) -> None:
    assert sweep("s.toml", *ASK, "--seeds", "0", cwd=home)[0] == 0
    path = home / "runs/s-rt-simclr-seed0/run.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["batch_size"] = 3
    path.write_text(json.dumps(content))
    code, _, err = sweep("s.toml", "--resume", cwd=home)
    assert code == 1
    assert "runs/s-rt-simclr-seed0 was made with other settings" in err
    (home / "s.toml").write_text(FILE.replace("n = 8", "n = 12"))
    code, _, err = sweep("s.toml", "--resume", cwd=home)
    assert code == 1
    assert "was started with other datasets than s has now" in err
    code, _, err = sweep("s.toml", *ASK, "--seeds", "0", "--overwrite", cwd=home)
    assert (code, err) == (0, "")
    assert results(home)["datasets"][0]["n_train"] == 12


def test_what_is_no_sweep_and_no_run_is_not_touched(home: Path) -> None:
    (home / "sweeps/s").mkdir(parents=True)
    (home / "sweeps/s/thesis.txt").write_text("years of work")
    code, _, err = sweep("s.toml", *ASK, "--overwrite", cwd=home)
    assert code == 1
    assert "not touched" in err
    (home / "runs" / RUNS[0]).mkdir(parents=True)
    (home / "runs" / RUNS[0] / "thesis.txt").write_text("years of work")
    for more in (["--overwrite"], []):
        code, _, err = sweep("s.toml", *ASK, "--name", "s", *more, cwd=home)
        assert code == 1
    (home / "sweeps/s/thesis.txt").unlink()
    (home / "sweeps/s").rmdir()
    code, _, err = sweep("s.toml", *ASK, "--overwrite", cwd=home)
    assert code == 1
    assert "expected a run folder" in err
    code, _, err = sweep("s.toml", *ASK, cwd=home)
    assert "type --resume to take it into the sweep" in err
    assert (home / "runs" / RUNS[0] / "thesis.txt").exists()


def test_each_child_has_its_share_of_the_cores(unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = (unbroken / "sweeps/s/logs/s-rt-simclr-seed0.log").read_text()
    assert log.startswith("$ probekit pretrain simclr --data sweeps/s/data/rt.h5 --name s-rt-simclr-seed0")
    assert all(line.endswith(" 1") for line in log.splitlines() if line.startswith("at work"))
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    found = jobs.child_environment(threads=4)
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(stub.ROOT)  # a checkout: from any folder, not installed
    assert [found[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")] == ["4", "2", "4"]


def test_no_more_run_at_once_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", "import time; time.sleep(0.15)"))
    most: list[int] = []
    ended: list[str] = []

    def end(job: jobs.Job, outcome: jobs.Outcome) -> list[jobs.Job]:
        ended.append(f"{job.name} {outcome.state}")
        return []

    def once(done: list[bool]) -> Callable[[], list[str] | None]:
        return lambda: None if done else (done.append(True) or ["x"])  # type: ignore[func-returns-value]

    work = [jobs.Job(str(n), tmp_path / f"{n}.log", once([])) for n in range(5)]
    stopped = jobs.run_jobs(
        work,
        at_once=2,
        places=[dict(os.environ)],
        deadline=float("inf"),
        ended=end,
        show=lambda active, waiting: most.append(len(list(active))),
        stopping=lambda reason: None,
    )
    assert stopped is None
    assert max(most) == 2
    assert sorted(ended) == [f"{n} finished" for n in range(5)]


def test_a_command_that_leaves_no_result_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", "pass"))
    outcomes: list[jobs.Outcome] = []
    jobs.run_jobs(
        [jobs.Job("x", tmp_path / "x.log", lambda: ["pretrain"])],
        at_once=1,
        places=[dict(os.environ)],
        deadline=float("inf"),
        ended=lambda job, outcome: outcomes.append(outcome) or [],  # type: ignore[func-returns-value]
        show=lambda active, waiting: None,
        stopping=lambda reason: None,
    )
    assert outcomes == [jobs.Outcome("failed", "probekit pretrain ended well and left no result")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_asks_twice_asks_the_children_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A second signal would end a child before it has saved (`probekit.output.console`)."""
    sent: list[int] = []
    child = SimpleNamespace(poll=lambda: None, send_signal=sent.append)
    monkeypatch.setattr(jobs, "start", lambda command, log, environment, several: child)
    monkeypatch.setattr(jobs, "POLL", 0.0)
    outcomes: list[str] = []
    looks: list[int] = []

    def look(active: Sequence[str], waiting: int) -> None:
        looks.append(waiting)
        if len(looks) < 5:
            os.kill(os.getpid(), number)
        else:
            child.poll = lambda: 1

    reason = jobs.run_jobs(
        [jobs.Job(name, tmp_path / name, lambda: ["pretrain"]) for name in "ab"],
        at_once=1,
        places=[{}],
        deadline=float("inf"),
        ended=lambda job, outcome: outcomes.append(f"{job.name} {outcome.state}") or [],  # type: ignore[func-returns-value]
        show=look,
        stopping=outcomes.append,
    )
    assert (reason, sent, outcomes) == ("a signal", [signal.SIGTERM], ["a signal", "a stopped"])
    assert looks[0] == 1
    assert not any(looks[1:])  # what waited is not begun


def test_a_half_made_folder_is_no_folder(tmp_path: Path) -> None:
    assert SweepFolder(tmp_path / "s").read() is None
