"""Who has died, by beats in a store that this process alone writes to.

Alone: pytest tests/ranks/test_watch.py
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch._C._distributed_c10d import HashStore

from probekit import ranks
from probekit.run import Run
from probekit.train import watch
from probekit.train.watch import LEFT, Watch


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watch, HashStore, list[int]]]:
    """The first of three, the store of all, and the codes with which it would have ended."""
    for name, seconds in {"BEAT": 0.02, "SILENT": 0.2, "MISSED": 0.1, "PATIENCE": 60.0, "GRACE": 0.1}.items():
        monkeypatch.setattr(watch, name, seconds)
    monkeypatch.setattr(ranks, "size", lambda: 3)
    monkeypatch.setattr(ranks, "largest", lambda *numbers: list(numbers))
    monkeypatch.setattr(watch, "_TRAINED", [])
    store, codes = HashStore(), list[int]()
    for rank in (1, 2):
        store.set(f"beat/{rank}", "1")
        store.set(f"who/{rank}", f"process {rank} on there")
    watched = Watch(store, end=codes.append)
    yield watched, store, codes
    watched.over.set()
    if watched.thread.ident is not None:
        watched.thread.join()


def test_the_one_that_beats_no_more_is_named_and_one_that_has_left_is_not(
    first: tuple[Watch, HashStore, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, store, _ = first
    store.set("beat/1", LEFT.decode())
    assert list(watched.missing()) == ["rank 2 of 3 (process 2 on there)"]
    store.set("beat/2", LEFT.decode())
    monkeypatch.setattr(watch, "PATIENCE", 0.2)
    assert list(watched.missing()) == []


def test_silence_ends_the_process_with_one_line(
    first: tuple[Watch, HashStore, list[int]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, store, codes = first
    watch.trains(Run(Path("runs/mine")))
    beats = itertools.count()

    def look(keys: list[str]) -> list[bytes]:
        store.set("beat/1", str(next(beats)))  # beats whenever it is looked at, on however slow a machine
        return store.multi_get(keys)

    asked = {name: getattr(store, name) for name in ("set", "get", "add", "check")}
    monkeypatch.setattr(watched, "store", SimpleNamespace(**asked, multi_get=look))
    watched.start()
    watched.thread.join(60)
    assert codes == [1]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "error: rank 2 of 3 (process 2 on there) has ended without a word, and so the others end; to go on from the "
        "last checkpoint type: probekit pretrain --resume --name mine"
    ]


def test_before_there_is_a_run_none_is_named_to_go_on_with(first: tuple[Watch, HashStore, list[int]]) -> None:
    """The newest run would be another's."""
    assert watch.gone("rank 2").endswith("; start all of them again")


def test_one_alone_tells_and_the_others_end_a_while_after(first: tuple[Watch, HashStore, list[int]]) -> None:
    watched, store, codes = first
    store.add("ended", 1)
    watched.start()
    watched.thread.join(60)
    assert codes == [1]
    assert not watched.tells()
