"""A damaged sweep.json: the sweep goes on as it was, or refuses in one line and touches nothing.

The children are stubs (stub.py). Alone: pytest tests/sweep/test_damaged_plan.py
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probekit.sweep.session import Session
from tests.damages import ANY, JSON
from tests.sweep.test_breaks import ASK, RUNS, sweep, unbroken

__all__ = ["unbroken"]
DAMAGES = 60
ASKED = {"on": ["--resume"], "more": ["--resume", "--seeds", "7"], "again": ["--overwrite", *ASK], "plain": []}


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    """What is left to do is not done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "run", lambda *_, **__: None)
        yield


def held(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("number", range(DAMAGES))
def test_a_damaged_plan_is_refused_in_a_line(number: int, unbroken: Path, tmp_path: Path) -> None:
    draw = random.Random(number)
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    damage = draw.choice([*ANY, *JSON])
    damage(tmp_path / "sweeps" / "s" / "sweep.json", draw)
    before = held(tmp_path)
    asked = draw.choice(list(ASKED))
    code, out, err = sweep("s.toml", *ASKED[asked], cwd=tmp_path)
    about = f"{number}: {damage.__name__}, {asked}: {out}{err}"
    assert code in (0, 1), about
    assert len(err.splitlines()) == code, about
    if code:
        assert len(err) < 1000, about
        assert held(tmp_path) == before, about


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "seeds": (lambda plan: plan.update(seeds=["0"]), "expected seeds[0] = a whole number in "),
    "no seeds": (lambda plan: plan.pop("seeds"), "expected seeds = a list in "),
    "settings": (lambda plan: plan.update(set=[0]), "expected set[0] = a string in "),
    "no epochs": (lambda plan: plan.pop("epochs"), "expected epochs = a whole number in "),
    "no hash": (lambda plan: plan["data"]["rt"].pop("hash"), "expected data.rt.hash = a string in "),
    "images": (lambda plan: plan["data"]["rt"].update(n_train="8"), "expected data.rt.n_train = a whole number in "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_plan_lacks_is_named(name: str, unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    plan = tmp_path / "sweeps" / "s" / "sweep.json"
    content, (change, told) = json.loads(plan.read_text()), CHANGES[name]
    change(content)
    plan.write_text(json.dumps(content))
    code, _, err = sweep("s.toml", "--resume", cwd=tmp_path)
    assert (code, len(err.splitlines())) == (1, 1)
    assert told in err


def test_overwrite_removes_no_run_that_a_plan_names_elsewhere(unbroken: Path, tmp_path: Path) -> None:
    """A seed is part of a run's name, and a name with ".." would be another folder's."""
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "runs" / RUNS[0], tmp_path / "precious")
    plan = tmp_path / "sweeps" / "s" / "sweep.json"
    content = json.loads(plan.read_text())
    plan.write_text(json.dumps(content | {"seeds": ["0/../../precious"]}))
    code, _, err = sweep("s.toml", "--overwrite", *ASK, cwd=tmp_path)
    assert (tmp_path / "precious" / "run.json").exists()
    assert (code, len(err.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    "name", ["sweeps/s/sweep.json", "sweeps/s/logs", "sweeps/s/data", "runs/s-rt-simclr-seed0/results"]
)
@pytest.mark.parametrize("asked", ["on", "again"])
def test_no_link_out_of_a_sweep_or_its_runs_is_followed(
    name: str,
    asked: str,
    unbroken: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).rename(tmp_path / "away")
    (tmp_path / name).symlink_to(tmp_path / "away")
    before = held(tmp_path)
    code, _, err = sweep("s.toml", *ASKED[asked], cwd=tmp_path)
    assert (code, len(err.splitlines())) == (1, 1)
    assert f"is a link to {tmp_path / 'away'}; put that itself in the link's place" in err
    assert held(tmp_path) == before
