"""What ends a run from outside: a reader that leaves, a closed terminal, a full disk. What is saved, and a true state.

Alone: pytest tests/train/test_ends.py
"""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from probekit.run import Run, create_run
from probekit.train.signals import stop_on_signals
from tests.commands.typed import typed
from tests.datasets import RUN, small_shapes

SMALL = ["--batch-size", "8", "--set", "model.width=2", "--set", "train.eval_every=9999", "--name", "run"]
LONG = ["--epochs", "5000", *SMALL]
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    small_shapes(tmp_path / "data/shapes.h5", n=16, n_test=4, size=16)
    return tmp_path


@pytest.mark.parametrize("how", ["pipe", "SIGHUP"])
def test_a_reader_that_leaves_is_a_request_to_stop(home: Path, how: str) -> None:
    """`probekit pretrain | head -1`, and a terminal that is closed."""
    command = [sys.executable, "-u", "-m", "probekit", "pretrain", "simclr", *LONG]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while not (line := process.stdout.readline()).startswith("probe after epoch 1"):
        assert line, process.stderr.read()
    run = Run(home / "runs/run")
    assert run.read()["state"] == "running"
    process.stdout.close()
    if how == "SIGHUP":
        process.send_signal(signal.SIGHUP)
    said = process.stderr.read()
    assert process.wait(timeout=60) == 1
    assert said == "error: stopped, all saved; to go on type: probekit pretrain --resume --name run\n"
    assert run.read()["state"] == "interrupted"
    assert (run.checkpoints / "last.pt").stat().st_mtime > (run.checkpoints / "best_test.pt").stat().st_mtime


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped
            signal.raise_signal(signal.SIGTERM)
            assert stopped
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_commands_end_without_a_word_when_nobody_reads(home: Path) -> None:
    command = f"{sys.executable} -m probekit list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("lasting", [False, True])
def test_a_full_disk_leaves_a_true_state_and_nothing_half(
    home: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """At the first checkpoint; for good, or until what was half written is gone."""
    fsync = os.fsync
    begun: list[str] = []

    def full(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        if ".pt" in name or (begun and lasting):
            begun.append(name)
            raise FULL
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    done = typed("pretrain", "simclr", *SMALL, "--epochs", "1", cwd=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: runs/run/checkpoints/")
    assert done.stderr.endswith(".pt cannot be written: the disk is full, or a limit reached; free some space\n")
    run = Run(home / "runs/run")
    assert run.read()["state"] == ("interrupted" if lasting else "failed")
    assert not [path for path in run.path.rglob("*") if path.suffix in (".tmp", ".pt")]


def test_a_run_that_is_trained_is_refused_to_a_second_trainer_and_to_overwrite(home: Path) -> None:
    run = create_run(home / "runs/run", RUN, overwrite=False)
    with run.locked("train"):
        for words in (["--resume", "--name", "run"], ["simclr", *LONG, "--overwrite"]):
            done = typed("pretrain", *words, cwd=home)
            assert done.returncode == 1
            assert f"expected runs/run for this command alone, found process {os.getpid()} on " in done.stderr
            assert len(done.stderr.splitlines()) == 1
