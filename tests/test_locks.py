"""One process at a time in a run folder: who holds it is named, and the system frees what a kill leaves.

Alone: pytest tests/test_locks.py
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from probekit import locks
from probekit.locks import holder, lock, locked
from probekit.run import WORK, Run, create_run
from tests.datasets import RUN

CONTENT = RUN | {"state": "running"}
HOLD = """
import sys
from pathlib import Path
from probekit.run import Run
with Run(Path(sys.argv[1])).locked(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "a", CONTENT, overwrite=False)


@contextmanager
def another(run: Run, work: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run for a work."""
    command = [sys.executable, "-c", HOLD, str(run.path), work]
    tree, pipe = Path(__file__).parents[1], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=tree) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


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
    path.touch()
    asking = os.open(path, os.O_RDONLY)
    assert lock(asking, shared=True)  # as `holder` does
    assert holder(path) is None
    run.refuse_work()
    assert run.read()["state"] == "interrupted"
    os.close(asking)
    with run.locked("train"):
        assert (holder(path) or "").startswith(f"process {os.getpid()} on ")


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


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock on a disk of several machines whose file system keeps `flock` to each, or has none."""
    monkeypatch.setattr(locks, "_flock", lambda handle, shared: None)
    return tmp_path / ".train.lock"


@contextmanager
def on(machine: str) -> Iterator[None]:
    with patch.object(locks, "_machine", lambda: machine):
        yield


@pytest.mark.parametrize("reached", [True, None])  # what flock says there: nobody on that machine, or nothing
def test_a_lock_holds_on_other_machines(shared: Path, monkeypatch: pytest.MonkeyPatch, reached: bool | None) -> None:
    monkeypatch.setattr(locks, "_flock", lambda handle, shared: reached)
    with on("a"), locked(shared, "it"), on("b"):
        assert (holder(shared) or "").startswith(f"process {os.getpid()} on ")
        with pytest.raises(ValueError, match=f"expected it for this command alone, found process {os.getpid()} on "):
            locked(shared, "it").__enter__()
    with on("b"), locked(shared, "it"):
        pass
    assert holder(shared) is None
    assert [path.name for path in shared.parent.iterdir()] == [".train.lock"]


def at_once(lease: Path, number: int) -> list[str]:
    """Which of so many threads, each in place of a process, have taken a lease that they ask for at once."""
    start, won = threading.Barrier(number), list[str]()

    def ask(name: str) -> None:
        start.wait()
        if locks._take(lease, f"process {name}\n{name}\n", alone=False) is None:
            won.append(name)

    threads = [threading.Thread(target=ask, args=(str(name),)) for name in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.parametrize("left", [[], [""], ["", ".claim"], ["", ".claim", ".claim.claim"]])
def test_of_many_that_ask_at_once_one_has_it(shared: Path, monkeypatch: pytest.MonkeyPatch, left: list[str]) -> None:
    """Also where what dead machines left is there for all to take, or one died as it took that."""
    monkeypatch.setattr(os, "getpid", threading.get_native_id)
    for attempt in range(20):
        lease = shared.with_name(f"{attempt}.lease")
        for suffix in left:
            dead = lease.with_name(lease.name + suffix)
            dead.write_text("process 1 on a machine (gone)\nanother\n")
            os.utime(dead, (1, 1))
        (won,) = at_once(lease, 8)
        assert lease.read_text() == f"process {won}\n{won}\n"
        assert list(lease.parent.glob(f"{lease.name}*")) == [lease]


@pytest.mark.parametrize("look", [1, 2])
def test_a_slow_one_leaves_what_another_took(shared: Path, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """A lease is dead, and another takes that as this one looks at it for the first or the second time."""
    lease, looks = shared.with_suffix(".lease"), list[Path]()
    lease.write_text("process 1 on a\na\n")
    os.utime(lease, (1, 1))

    def slow(lease: Path) -> float:
        looks.append(lease)
        if len(looks) == look:
            lease.write_text("process 2 on b\nb\n")
        return time.time()

    monkeypatch.setattr(locks, "_clock", slow)
    assert locks._take(lease, "process 3 on c\nc\n", alone=False) == "process 2 on b"
    assert lease.read_text() == "process 2 on b\nb\n"
    assert list(lease.parent.iterdir()) == [lease]


def test_who_is_silent_for_long_is_taken_for_dead(shared: Path) -> None:
    shared.touch()
    lease = shared.with_suffix(".lease")
    lease.write_text("process 1 on a\na\n")
    # -10 hours: the clock was wrong when it was renewed
    for seconds, alive in ((0.5 * locks.DEAD, True), (-36000, False), (1.5 * locks.DEAD, False)):
        os.utime(lease, (time.time() - seconds,) * 2)
        assert holder(shared) == ("process 1 on a" if alive else None)
    with locked(shared, "it"):
        assert (holder(shared) or "").startswith(f"process {os.getpid()} on ")
    assert not lease.exists()


def test_who_wakes_up_and_is_taken_for_dead_stops(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, asked = shared.with_suffix(".lease"), list[int]()
    monkeypatch.setattr(locks, "interrupt_main", asked.append)
    monkeypatch.setattr(locks, "BEAT", 0.05)
    held = locked(shared, "it")
    held.__enter__()
    lease.write_text("process 7 on b\nb\n")
    until = time.monotonic() + 60
    while not asked:
        assert time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(ValueError, match=r"it was taken by process 7 on b: this process was silent for 120 s"):
        held.__exit__(None, None, None)
    assert asked == [signal.SIGTERM]
    assert lease.read_text() == "process 7 on b\nb\n", "it is the other's"


def test_a_lease_is_renewed(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    lease = shared.with_suffix(".lease")
    with locked(shared, "it"):
        os.utime(lease, (1, 1))
        until = time.monotonic() + 60
        while lease.stat().st_mtime < 2:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_what_a_killed_process_left_is_free_at_once_where_flock_reaches(run: Run) -> None:
    with another(run, "train") as process:
        process.kill()
        process.wait()
        assert run.lock("train").with_suffix(".lease").exists()
        with run.locked("train"):
            assert (holder(run.lock("train")) or "").startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("text", ["", "\0" * 5000, "one line"])
def test_a_lease_that_says_nothing_is_anothers(shared: Path, text: str) -> None:
    shared.touch()
    shared.with_suffix(".lease").write_text(text)
    assert holder(shared) is not None
    with pytest.raises(ValueError, match="at work; wait for it"):
        locked(shared, "it").__enter__()
