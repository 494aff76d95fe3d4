"""A damaged run folder: every command that reads it says so in one line, or does without what is lost.

A sample of the damages, each under one command that reads the file; all of them, under each such command:
PROBEKIT_DAMAGES=500 pytest tests/test_damaged_runs.py
"""

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from matplotlib.figure import Figure

from tests.damages import ANY, JSON, TENSORS, WEIGHTS
from tests.typed import typed

ALL = 500
DAMAGES = int(os.environ.get("PROBEKIT_DAMAGES", "30"))
PATIENCE = 250  # seconds, after which a command hangs: on a busy machine a good one may take a minute
COMMANDS = {
    "probe": ["probe", "r", "--no-baselines"],
    "probe best": ["probe", "r", "--no-baselines", "--checkpoint", "best_val"],
    "probe all": ["probe", "r", "--no-baselines", "--all-checkpoints"],
    "heatmap": ["heatmap", "r", "--n", "2", "--perturb", "0", "--maps", "input-gradient"],
    "report": ["report", "r"],
    "compare": ["compare", "r", "other"],
    "show": ["show", "r"],
    "export": ["export-embeddings", "r"],
    "resume": ["pretrain", "--resume", "--name", "r", "--epochs", "3"],
}
READS = {  # what of a run folder, beside run.json
    "probe": ["encoder.safetensors", "embeddings/*", "results/*", "figures/*", ".probe.lock"],
    "probe best": ["checkpoints/best_val.pt"],
    "probe all": ["checkpoints/*.safetensors", "encoder.safetensors", "embeddings/*"],
    "heatmap": ["encoder.safetensors", "results/heatmap*", "figures/heatmap*", ".heatmap.lock"],
    "report": ["metrics.jsonl", "results/*"],
    "compare": ["results/*"],
    "show": ["checkpoints/last.pt", "figures/views*"],
    "export": ["encoder.safetensors", "embeddings/*"],
    "resume": ["checkpoints/last.pt", "metrics.jsonl", ".train.lock"],
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


class HangError(BaseException):
    """A command did not end. Not an `Exception`: no command may catch it."""


@pytest.fixture(autouse=True, scope="module")
def undrawn(few_strengths: None) -> Iterator[None]:
    """Pictures are drawn empty: what they show is of no matter here, and takes most of the time."""

    def save(figure: Figure, out: Any, *, format: str, metadata: Mapping[str, Any], **options: Any) -> None:
        if format == "svg":
            out.write(SVG)
        else:
            plain(Figure(figsize=(0.1, 0.1)), out, format=format, metadata=metadata)

    plain = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run for which commands have been typed, and its copy to compare it with."""
    folder = tmp_path_factory.mktemp("whole")
    images = ["gen", "rect-tri", "--n", "8", "--n-test", "4", "--size", "16", "--workers", "1"]
    small = ["--set", "model.width=2", "--set", "model.depth=2", "--set", "train.keep_every=1"]
    train = ["pretrain", "simclr", "--name", "r", "--epochs", "2", "--batch-size", "4", "--eval-every", "1", *small]
    for arguments in (images, train, *(COMMANDS[name] for name in ("probe all", "heatmap", "show"))):
        done = typed(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "runs" / "r", folder / "runs" / "other")
    for file in (folder / "runs" / "other" / "results").iterdir():
        file.write_text(file.read_text().replace('"run": "r"', '"run": "other"'))
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_whole_folder(name: str, whole: Path, tmp_path: Path) -> None:
    """That is a link itself, to another disk say, and has links within it."""
    shutil.copytree(whole, tmp_path / "home")
    run = tmp_path / "home" / "runs" / "r"
    (run / "checkpoints" / "best_val.pt").unlink()
    (run / "checkpoints" / "best_val.pt").symlink_to("last.pt")
    run.rename(tmp_path / "disk")
    run.symlink_to(tmp_path / "disk")
    done = type_in(tmp_path / "home", name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", range(DAMAGES))
def test_a_damaged_folder_is_refused_in_a_line(number: int, whole: Path, tmp_path: Path) -> None:
    """Or read as it was, where what is damaged is not needed; never a traceback, nor a hang."""
    draw = random.Random(number)
    run = whole / "runs" / "r"
    readers = {
        path.relative_to(whole): [
            name
            for name, patterns in READS.items()
            if any(path.relative_to(run).match(pattern) for pattern in ["run.json", *patterns])
        ]
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }
    files = [path for path, names in readers.items() if names]
    chosen = files[number % len(files)]
    kinds = [*ANY, *(JSON if chosen.suffix in (".json", ".jsonl") else TENSORS if chosen.suffix in WEIGHTS else [])]
    damage = draw.choice(kinds)
    names = readers[chosen] if DAMAGES >= ALL else [draw.choice(readers[chosen])]
    for name in names:
        home = tmp_path / name
        shutil.copytree(whole, home)
        damage(home / chosen, random.Random(number))
        done = type_in(home, name)
        about = f"{number}: {damage.__name__} of {chosen}, {name}: {done.stderr}"
        lines = done.stderr.splitlines()
        assert done.returncode in (0, 1), about
        assert "Traceback" not in done.stderr, about
        if done.returncode:
            assert len([line for line in lines if line.startswith("error: ")]) == 1, about
            assert lines[-1].startswith("error: "), about
            assert len(lines[-1]) < 1000, about
        assert not list(home.rglob("*.tmp")), about


@pytest.mark.parametrize("name", ["resume", "show", "heatmap"])
@pytest.mark.parametrize("wrong", [{"views": None}, {"data": []}, {"method_options": None}, {"model": "abc"}])
def test_settings_that_are_none_are_refused_in_a_line(
    name: str, wrong: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "runs" / "r" / "run.json"
    content = json.loads(file.read_text())
    content["config"] |= wrong
    file.write_text(json.dumps(content))
    done = type_in(tmp_path, name)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line[:16]) == (1, "error: expected "), line
    assert any(told in line for told in ("in run.json", "of run.json", "in runs/r/run.json")), line


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "resume"])
def test_an_interrupted_run_is_called_so(name: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "runs" / "r" / "run.json"
    content = json.loads(file.read_text()) | {"state": "interrupted"}
    content["config"]["train"]["epochs"] = 45
    file.write_text(json.dumps(content))
    done = type_in(tmp_path, name)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "runs" / "r" / "report.html"
    told = done.stdout + (page.read_text() if page.exists() else "")
    assert ("2 of 45, interrupted" if name == "compare" else "epoch 2 of 45, interrupted") in " ".join(told.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_link_out_of_a_run_is_followed(name: str, whole: Path, tmp_path: Path) -> None:
    """Each kind of file, and each folder, lies elsewhere, as it was: whoever followed the link would end well."""
    shutil.copytree(whole, tmp_path / "home")
    run, away = tmp_path / "home" / "runs" / "r", tmp_path / "away"
    first = {(path.parent, path.suffix): path for path in sorted(run.rglob("*"), reverse=True) if path.is_file()}
    chosen = [*first.values(), *sorted(path for path in run.iterdir() if path.is_dir()), run / ".train.lock"]
    assert len(chosen) > 10
    for path in chosen:
        path.rename(away) if path.exists() else away.write_text("precious")
        path.symlink_to(away)
        before = contents(tmp_path)
        done = type_in(tmp_path / "home", name)
        about = f"{path}, {name}: {done.stdout}{done.stderr}"
        assert done.returncode == 1, about
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: expected all of runs/r in it, found that "), about
        assert f"{path.relative_to(run)} is a link to {away}" in line, about
        assert contents(tmp_path) == before, about
        path.unlink()
        away.rename(path)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def type_in(home: Path, name: str) -> Any:
    with ends_within(PATIENCE):
        return typed(*COMMANDS[name], cwd=home)


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    def hang(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
