"""Every command of README and docs is typed, small, in a folder that holds what it names.

Alone: pytest tests/readers. Whether each parses: tests/test_docs.py; what pages show of output: tests/test_pages.py.
"""

from pathlib import Path

import pytest

from tests.readers.quick import make_quick
from tests.readers.shelf import Shelf, at_home
from tests.readers.small import BEFORE, BESIDE, ELSEWHERE, PARSED, small, typed_here
from tests.test_hints import ROOT
from tests.typed import typed

HERE = typed_here()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.mark.usefixtures("plain_pictures", "few_strengths", "few_baselines")
@pytest.mark.parametrize("name", HERE)
def test_every_command_runs_as_it_is_written(
    name: str, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(tmp_path / "bin", monkeypatch)
    shelf.bring(BESIDE.get(name, "").split(), tmp_path)
    for command in BEFORE.get(name, ()):
        shelf.bring(command.split(), tmp_path)
        assert typed(*command.split(), cwd=tmp_path).returncode == 0
    failed = []
    for number, command in enumerate(HERE[name]):
        words = small(command, number)
        shelf.bring(words, tmp_path)
        done = typed(*at_home(words, tmp_path), cwd=tmp_path)
        failed += [f"{command} {words}: {done.stderr}"] * (done.returncode != 0)
    assert failed == []


def test_few_are_left_to_other_tests() -> None:
    assert sum(map(len, HERE.values())) > 160
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values())
    assert len(PARSED) < 5
