"""What ends a run from outside: a reader that leaves, a closed terminal, a full disk. What is saved, and a true state.

Alone: pytest tests/train/test_ends.py
"""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

import pytest

from probekit.output.console import stop_on_signals
from probekit.run import Run, create_run
from probekit.train import live
from tests.datasets import RUN, small_shapes
from tests.forked import SERVER, probekit
from tests.forked import typed as typed_in_child
from tests.typed import typed

SMALL = ["--batch-size", "8", "--set", "model.width=2", "--set", "train.eval_every=9999", "--name", "run"]
LONG = ["--epochs", "5000", *SMALL]
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    small_shapes(tmp_path / "data/shapes.h5", n=16, n_test=4, size=16)
    return tmp_path


def talkative(*arguments: str, cwd: Path) -> None:
    """In a child: `probekit ARGUMENTS`, with more lines a second, into the two pipes of its folder."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    live.PLAIN_EVERY = 0.2
    typed_in_child(probekit, *arguments, cwd=cwd, out=cwd / "out", err=cwd / "err")


@contextmanager
def piped(*arguments: str, cwd: Path) -> Iterator[tuple[BaseProcess, TextIO, TextIO]]:
    """A talkative child, and where its output and its errors can be read."""
    for name in ("out", "err"):
        os.mkfifo(cwd / name)
    process = SERVER.Process(target=talkative, args=arguments, kwargs={"cwd": cwd})
    process.start()
    with (cwd / "out").open() as out, (cwd / "err").open() as err:
        yield process, out, err
    process.join()


@pytest.mark.parametrize("how", ["pipe", "SIGHUP"])
def test_a_reader_that_leaves_is_a_request_to_stop(home: Path, how: str) -> None:
    """`probekit pretrain | head -1`, and a terminal that is closed."""
    with piped("pretrain", "simclr", *LONG, cwd=home) as (process, out, err):
        while not (line := out.readline()).startswith("monitor after epoch 1"):
            assert line, err.read()
        run = Run(home / "runs/run")
        assert run.read()["state"] == "running"
        out.close()
        if how == "SIGHUP":
            assert process.pid is not None
            os.kill(process.pid, signal.SIGHUP)
        said = err.read()
    assert process.exitcode == 1
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
    with piped("list", cwd=home) as (process, out, err):
        out.close()
        assert err.read() == ""
    assert process.exitcode == 1
    # What is still in the buffer goes to nobody only as the interpreter ends.
    command = f"{sys.executable} -m probekit --version | true"
    done = subprocess.run(["bash", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stderr == ""


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
