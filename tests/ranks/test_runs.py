"""Whole runs in two processes: they write as one, stop together, and outlive each other by seconds; resume, refusals.

Alone: pytest tests/ranks/test_runs.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit import ranks
from probekit.config import resolve
from probekit.models import pooling
from probekit.registry import METHODS as ALL
from probekit.registry import get
from probekit.restore.build import build_method
from probekit.run import Run
from probekit.train import plan
from tests.datasets import small_shapes
from tests.forked import SERVER, probekit, typed
from tests.ranks.together import agent_store, as_rank
from tests.train.test_loop import assert_same, content
from tests.typed import typed as typed_here

ROOT = Path(__file__).parents[2]
METHODS = ("conrec", "swav")
SMALL = ["--data", "shapes.h5", "--epochs", "3", "--batch-size", "8", "--eval-every", "2", "--set", "model.width=4"]
SMALL += ["--set", "model.depth=2", "--precision", "fp32"]
SPECIAL = {"swav": ["--set", "method.hidden=16", "--set", "method.queue_from=1", "--set", "method.freeze=0"]}
CLOSE = 1e-3  # of the losses of three epochs in float32, relative; docs/scale.md
MIDDLE = 6  # steps: of 4 an epoch
Hit = tuple[int, int] | None  # which rank sends itself which signal in the middle; 0 raises an error


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and a whole run of each method in two processes."""
    folder = tmp_path_factory.mktemp("home")
    small_shapes(folder / "shapes.h5", size=16)
    for method in METHODS:
        _whole(folder, method, 2, f"{method}-2")
    return folder


def _whole(folder: Path, method: str, n: int, name: str, dropout: bool = True) -> None:
    said = together(n, folder, method, *SMALL, *SPECIAL.get(method, ()), "--name", name, dropout=dropout)
    assert said.codes == [0] * n, said.err
    assert "wrote runs/" in said.out[0]
    assert said.out[1:] == [""] * (n - 1)  # one prints


class Said:
    def __init__(self, codes: Sequence[int | None], out: list[str], err: list[str]) -> None:
        self.codes, self.out, self.err = list(codes), out, err

    @property
    def lines(self) -> list[str]:
        """What they said on stderr, all of them together, but for torch's own."""
        return [line for text in self.err for line in text.splitlines() if line.startswith("error:")]


def together(n: int, folder: Path, *words: str, hit: Hit = None, dropout: bool = True) -> Said:
    """`probekit pretrain WORDS` in n processes, as torchrun would start them."""
    store = agent_store()
    paths = [[folder / f"{rank}.{kind}" for kind in ("out", "err")] for rank in range(n)]
    for files in paths:
        for path in files:
            path.unlink(missing_ok=True)
    children = []
    for rank, (out, err) in enumerate(paths):
        arguments = (rank, n, store.port, hit, dropout, words, folder, out, err)
        children.append(SERVER.Process(target=_child, args=arguments))
        children[-1].start()
    for child in children:
        child.join()
    texts = [[path.read_text() for path in files] for files in paths]
    return Said([child.exitcode for child in children], [out for out, _ in texts], [err for _, err in texts])


def _child(
    rank: int, n: int, port: int, hit: Hit, dropout: bool, words: Sequence[str], folder: Path, out: Path, err: Path
) -> None:
    torch.set_num_threads(1)
    as_rank(rank, n, port)
    if not dropout:
        pooling.DROPOUT = 0.0
    if hit is not None and hit[0] == rank:
        _hit_in_the_middle(hit[1])
    typed(probekit, "pretrain", *words, "--device", "cpu", cwd=folder, out=out, err=err)


def _hit_in_the_middle(number: int) -> None:
    from probekit.train import loop

    advance = loop.Trainer.advance

    def hit(trainer: loop.Trainer, *batch: Any) -> None:
        advance(trainer, *batch)
        if trainer.step_count == MIDDLE - 1:
            if not number:
                raise ValueError("expected images of rank 1, found none")
            Path("hit").write_text(str(time.monotonic()))  # the same for all processes
            os.kill(os.getpid(), number)

    loop.Trainer.advance = hit  # type: ignore[method-assign, assignment]


def metrics(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_write_what_one_does(home: Path, method: str) -> None:
    """But for dropout, of which each has its own. Adam divides by gradients that are 0 but for rounding."""
    for n in (1, 2):
        _whole(home, method, n, f"{method}-{n}-alike", dropout=False)
    one, two = (metrics(home, f"{method}-{n}-alike") for n in (1, 2))
    assert [line.keys() for line in one] == [line.keys() for line in two]
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=CLOSE)
    told = Run(home / "runs" / f"{method}-2-alike").read()
    assert told["state"] == "finished"
    assert told["device"] == "2 processes, each on cpu (1 thread)"


@pytest.mark.parametrize("method", METHODS)
def test_a_signal_to_one_stops_all_and_the_run_resumes_bit_for_bit(home: Path, method: str) -> None:
    name = f"{method}-stopped"
    given = [*SMALL, *SPECIAL.get(method, ())]
    said = together(2, home, method, *given, "--name", name, hit=(1, signal.SIGTERM))
    assert said.codes == [1, 1]
    again = f"probekit pretrain --resume --name {name} --gpus 2 --device cpu"
    assert said.lines == [f"error: stopped, all saved; to go on type: {again}"]
    run = Run(home / "runs" / name)
    assert run.read()["state"] == "interrupted"
    progress = content(run)["progress"]
    assert MIDDLE <= 4 * progress["epoch"] + progress["batch"] < 12
    assert together(2, home, "--resume", "--name", name).codes == [0, 0]
    assert_same(content(run), content(Run(home / "runs" / f"{method}-2")))
    assert metrics(home, name) == metrics(home, f"{method}-2")


@pytest.mark.parametrize("method", METHODS)
def test_one_that_is_killed_ends_the_other_which_names_it_and_the_run_resumes(home: Path, method: str) -> None:
    name = f"{method}-killed"
    given = [*SMALL, *SPECIAL.get(method, ())]
    said = together(2, home, method, *given, "--name", name, hit=(1, signal.SIGKILL))
    waited = time.monotonic() - float((home / "hit").read_text())
    assert waited < 200, "a minute is promised, where nothing else runs; without a watch it were days"
    assert said.codes == [1, -signal.SIGKILL]
    (line,) = said.lines
    assert line.startswith("error: rank 1 of 2 (process ")
    again = f"probekit pretrain --resume --name {name} --gpus 2 --device cpu"
    assert line.endswith(
        f"has ended without a word, and so the others end; to go on from the last checkpoint type: {again}"
    )
    assert together(2, home, "--resume", "--name", name).codes == [0, 0]
    assert_same(content(Run(home / "runs" / name)), content(Run(home / "runs" / f"{method}-2")))


def test_a_run_of_two_goes_on_in_one_up_to_rounding(home: Path) -> None:
    said = together(2, home, "swav", *SMALL, *SPECIAL["swav"], "--name", "fewer", hit=(0, signal.SIGINT))
    assert said.codes == [1, 1]
    said = together(1, home, "--resume", "--name", "fewer")
    assert said.codes == [0]
    assert (
        "note: fewer began on 2 processes, each on cpu (1 thread) and goes on on cpu (1 thread): equal up to"
        in (said.out[0])
    )
    for a, b in zip(metrics(home, "fewer"), metrics(home, "swav-2"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=CLOSE)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--batch-size", "9"], "expected a batch that 2 processes can share, found 9 images; type: --batch-size 8"),
        (["--set", "optimizer.lr=9e8", "--set", "optimizer.name=sgd"], "expected a finite loss, found "),
        (["--data", "nothing.h5"], "nothing.h5"),
        (["--branch", "nothing"], "unknown branch 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_line_of_all(home: Path, words: list[str], line: str) -> None:
    said = together(2, home, "simclr", *SMALL, *words, "--name", "refused", "--overwrite")
    assert said.codes == [1, 1]
    assert len(said.lines) == 1
    assert line in said.lines[0]


def test_torchrun_is_started_for_gpus_and_one_line_is_all_that_it_says(home: Path) -> None:
    """With fresh interpreters, as typed."""
    words = [sys.executable, "-m", "probekit", "pretrain", "simclr", *SMALL, "--gpus", "2", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, "--batch-size", "9"], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    line = "error: expected a batch that 2 processes can share, found 9 images; type: --batch-size 8, or to go on with "
    assert done.stderr == line + "a run --gpus 1\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--gpus", "2"],
            "expected 2 GPUs for --gpus 2, found none; for as many processes on this machine's cores add",
        ),
        (["--gpus", "2", "--device", "cpu", "--dry-run"], "leave --gpus out"),
        (["--gpus", "1000", "--device", "cpu"], "with --device cpu here, found 1000; type --gpus 2"),
    ],
)
def test_what_cannot_be_started_is_one_line(
    home: Path, words: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    done = typed_here("pretrain", "simclr", *words, cwd=home)
    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_error_of_one_ends_both_and_is_told_once(home: Path) -> None:
    """What only one of them meets, such as images of its own that cannot be read."""
    said = together(2, home, "simclr", *SMALL, "--name", "broken", hit=(1, 0))
    assert said.codes == [1, 1]
    assert said.lines == ["error: expected images of rank 1, found none"]
    assert Run(home / "runs" / "broken").read()["state"] == "failed"


def test_a_batch_that_is_named_can_be_shared_and_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 17 images, 18 for three processes would be refused, with 17 to type."""
    monkeypatch.setattr(ranks, "size", lambda: 3)
    assert [plan.shareable(n) for n in (17, 15, 8, 2)] == [15, 15, 6, 3]
    config = resolve("simclr", get(ALL, "method", "simclr"), preset="quick", seed=0, options={"model.depth": 2})
    method = build_method(config, channels=1)
    with pytest.raises(ValueError, match=r"found 17 images; type: --batch-size 15, or .* --gpus 1"):
        plan.unite(method, 17)
    plan.unite(method, 15)
    assert [ranks.fewer(n) for n in (17, 16, 9)] == [1, 2, 3]
