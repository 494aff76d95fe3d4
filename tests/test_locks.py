"""One process at a time in a run folder: who holds it is named, and the system frees what a kill leaves.

Alone: pytest tests/test_locks.py
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probekit.files import holder, lock, locked
from probekit.h5.target import check_free
from probekit.run import WORK, Run, create_run
from tests.datasets import RUN

CONTENT = RUN | {"state": "running"}
HOLD = """
import sys, time
from pathlib import Path
from probekit.run import Run
with Run(Path(sys.argv[1])).locked(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "a", CONTENT, overwrite=False)


@contextmanager
def another(run: Run, work: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run for a work."""
    command = [sys.executable, "-c", HOLD, str(run.path), work]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_and_the_first_one_named(run: Run) -> None:
    with another(run, "train") as process:
        with pytest.raises(ValueError, match=rf"{run.path} for this command alone, found process {process.pid} on "):
            run.locked("train").__enter__()
        with run.locked("probe"):  # another work
            pass
        for refuse in (run.refuse_work, run.remove, lambda: create_run(run.path, CONTENT, overwrite=True)):
            with pytest.raises(ValueError, match=f"found process {process.pid} "):
                refuse()
        assert run.read()["state"] == "running"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.read()["state"] == "interrupted", "nobody trains it any more"
    with run.locked("train"):
        assert run.read()["state"] == "running"
    run.remove()
    assert not run.path.exists()


@pytest.mark.parametrize("work", WORK)
def test_what_is_looked_into_is_not_replaced(run: Run, work: str) -> None:
    with run.locked(work), pytest.raises(ValueError, match="wait for it, or end it"):
        create_run(run.path, CONTENT, overwrite=True)
    assert create_run(run.path, CONTENT | {"state": "new"}, overwrite=True).read()["state"] == "new"


def test_who_asks_is_not_taken_for_one_who_holds(run: Run) -> None:
    path = run.lock("train")
    path.write_text("process 1 on another (gone long ago)")
    asking = os.open(path, os.O_RDONLY)
    assert lock(asking, shared=True)  # as `holder` does
    assert holder(path) is None
    check_free(path)
    run.refuse_work()
    assert run.read()["state"] == "interrupted"
    os.close(asking)
    with run.locked("train"):
        assert (holder(path) or "").startswith(f"process {os.getpid()} on ")
        with pytest.raises(OSError, match="another process is writing it"):
            check_free(path)


def test_asking_does_not_take_the_lock_from_anybody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`holder` holds it for a moment, in which another process may ask for it."""
    path = run.lock("train")
    path.touch()
    asked = []

    def ask_again(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            os.close(held)

    import fcntl

    held = os.open(path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", ask_again)
    with locked(path, "it"):
        assert holder(path) is not None
    assert holder(path) is None
    assert holder(run.path / "nothing") is None
