"""`--deterministic`: where it goes, that it changes nothing on a CPU, and that a GPU then resumes bit for bit.

Alone: pytest tests/train/test_deterministic.py
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from probekit import cli
from probekit.run import Run
from probekit.train import plan
from probekit.train import pretrain as starter
from probekit.train.loop import Trainer
from probekit.train.pretrain import resume
from tests.datasets import small_shapes
from tests.train.test_loop import assert_same, content, quiet, train

ON = {"train.deterministic": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path)
    return path


def test_it_is_a_setting_of_the_run_and_a_cpu_computes_as_without(data: Path, tmp_path: Path) -> None:
    runs = [train(data, tmp_path, name=name, options=options)[0] for name, options in (("without", {}), ("with", ON))]
    assert [run.read()["config"]["train"]["deterministic"] for run in runs] == [False, True]
    assert_same(content(runs[0])["method"], content(runs[1])["method"])
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("options", "calls"), [({}, []), (ON, [torch.device("cpu")] * 2)])
def test_a_resumed_run_computes_as_it_began(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], calls: list[torch.device]
) -> None:
    seen: list[torch.device] = []
    for module in (plan, starter):
        monkeypatch.setattr(module, "compute_deterministically", seen.append)
    run, _ = train(data, tmp_path, epochs=1, options=options)
    resume(run, epochs=2, device="cpu", console=quiet())
    assert seen == calls


def test_an_operator_that_cannot_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(trainer: Trainer, display: object) -> bool:
        raise RuntimeError(  # torch's own words
            "upsample_bicubic2d_aa_backward_out_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
        )

    monkeypatch.setattr(Trainer, "fit", refuse)
    with pytest.raises(ValueError, match=r"found: upsample_bicubic2d_aa_backward_out_cuda .*; leave it out$"):
        train(data, tmp_path, options=ON)
    assert Run(tmp_path / "run").read()["state"] == "failed"


def test_it_is_typed_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["pretrain", "simclr", "--data", str(data), "--name", "a", "--epochs", "1", "--batch-size", "8"]
    typed += ["--set", "model.width=4", "--device", "cpu", "--deterministic"]
    assert CliRunner().invoke(cli.app, typed).exit_code == 0
    assert Run(tmp_path / "runs/a").read()["config"]["train"]["deterministic"] is True
    done = CliRunner().invoke(cli.app, ["pretrain", "--resume", "--name", "a", "--epochs", "2", "--deterministic"])
    assert "--resume goes on with the run's own settings, found train.deterministic" in str(done.exception)


SCRIPT = """
import sys
from pathlib import Path
import pytest
from probekit.train.pretrain import resume
from tests.train import test_loop as t
on = {"train.deterministic": True}
data, runs, branches, preset = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(), sys.argv[4]
kind = dict(branches=branches, preset=preset, device="cuda", epochs=6, method="simclr" if branches else "conrec")
small = {"branch.xcorr.clusters": 4, "branch.xcorr.stages": "multi"} if branches else {}
whole, _ = t.train(data, runs, name="whole", options=on | small, **kind)
with pytest.MonkeyPatch.context() as patch:
    t.stop_after(14, patch)
    part, finished = t.train(data, runs, name="part", options=on | small, **kind)
assert not finished
assert resume(part, epochs=None, device="cuda", console=t.quiet())[1]
t.assert_same(t.content(whole), t.content(part))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("branches", ["", "xcorr"])
def test_on_a_gpu_stopped_and_resumed_is_the_run_that_was_never_stopped(
    data: Path, tmp_path: Path, branches: str, preset: str
) -> None:
    """In a process of its own: what cuBLAS reads, it reads once. 14 steps: some are replays of the recorded one."""
    command = [sys.executable, "-c", SCRIPT, str(data), str(tmp_path), branches, preset]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
