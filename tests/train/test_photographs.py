"""Runs on photographs that keep their sizes: the same for any threads, resumed, refused, with every branch.

Alone: pytest tests/train/test_photographs.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from probekit.data.split import open_split
from probekit.restore.build import build_method
from probekit.run import Run
from probekit.train.dry_run import dry_run
from probekit.train.pretrain import resume
from probekit.train.step import TrainingStep, build_step
from tests.h5.test_photographs import photographs
from tests.train.test_loop import SMALL, assert_same, assert_same_run, content, quiet, stop_after, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs") / "a.h5", 24)


def test_a_run_is_the_same_for_any_number_of_threads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(data, tmp_path, name="first")[0]
    monkeypatch.setattr("probekit.data.split.os.cpu_count", lambda: 5)
    assert_same(content(first)["method"], content(train(data, tmp_path, name="second")[0])["method"])
    other = train(data, tmp_path, name="other", options={"views.recipe": "moco-v2"})[0]
    assert any(not torch.equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))


def weights(run: Run) -> list[Tensor]:
    return list(content(run)["method"].values())


def test_a_stopped_run_goes_on_as_if_it_never_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(data, tmp_path, name="whole")[0]
    stop_after(4, monkeypatch)  # in the second epoch of three batches
    stopped, ended = train(data, tmp_path, name="stopped")
    assert not ended
    monkeypatch.undo()
    resume(stopped, epochs=None, device="cpu", console=quiet())
    assert_same_run(whole, stopped)


@pytest.mark.parametrize(
    ("method", "branches", "options"),
    [
        ("swav", (), {"method.prototypes": 6}),
        ("simclr", ("xcorr",), {"branch.xcorr.clusters": 3}),
        ("simclr", ("xcorr",), {"branch.xcorr.clusters": 3, "branch.xcorr.bank": "augmented"}),
        ("moco-v2", ("lcr", "contrastive-crop"), {"branch.contrastive-crop.warmup": 0.0, "method.queue": 16}),
        ("supervised", (), {}),
    ],
)
def test_methods_and_branches(
    data: Path, tmp_path: Path, method: str, branches: Sequence[str], options: dict[str, Any]
) -> None:
    run, ended = train(data, tmp_path, method=method, branches=branches, epochs=2, options=options)
    assert ended
    assert run.read_metrics()[-1]["epoch"] == 2


def step_of(data: Path, **options: Any) -> TrainingStep:
    from probekit.config import resolve
    from probekit.registry import METHODS, get

    images = open_split(data, "train", CPU, max_size=1024, cut=True).images
    kind = get(METHODS, "method", "simclr")
    config = resolve("simclr", kind, preset="quick", seed=0, options={**SMALL, **options})
    return build_step(config, build_method(config, channels=3), images)


def test_crops_are_addressed_by_seed_epoch_and_batch(data: Path) -> None:
    step, order = step_of(data), torch.split(torch.arange(24), 8)
    whole = [crops.clone() for _, crops in step.feed(order, epoch=1)]
    [(_, second)] = step.feed(order[1:2], epoch=1, first=1)
    assert torch.equal(second, whole[1])
    assert not torch.equal(next(step.feed(order[:1], epoch=2))[1], whole[0])
    assert not torch.equal(next(step.feed(order[1:2], epoch=1))[1], second)


def test_crops_of_a_bank_and_what_is_done_to_them_are_drawn_apart(data: Path) -> None:
    """The views' own stream begins at the seed: that of the crops at another."""
    step = step_of(data)
    cutter = step.cutter_of_companions
    assert cutter is not None
    crops = step.first_crops(5)[:8].permute(0, 2, 3, 1).flatten(1)
    index, maker = torch.arange(8), cutter.maker
    assert torch.equal(crops, step.first_crops(5)[:8].permute(0, 2, 3, 1).flatten(1))
    assert not torch.equal(crops, cutter(index, maker.draw_boxes(8, torch.Generator().manual_seed(5))))


def test_a_step_of_another_size_is_rehearsed(data: Path) -> None:
    step = step_of(data)
    step.rehearse(6)
    assert any(p.grad is not None for p in step.method.parameters())


def test_views_smaller_than_the_test_crop(data: Path) -> None:
    step = step_of(data, **{"views.max_size": 8})
    index, crops = next(step.feed([torch.arange(8)], epoch=0))
    assert crops.shape == (8, 2 * 8 * 8 * 3)
    assert step.views(index, crops).inputs.shape == (2, 8, 3, 8, 8)


def test_a_dry_run(data: Path) -> None:
    from probekit.settings import Asked

    result = dry_run(Asked("simclr", preset="quick", options=SMALL, device="cpu"), data, quiet())
    assert result["measured"]["ms"] > 0


def test_placements_that_hold_pixels_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.placement auto or file for photographs.*found device"):
        train(data, tmp_path, options={"data.placement": "device"})
    assert train(data, tmp_path, options={"data.placement": "file"}, epochs=1)[1]


def test_a_picture_of_its_views_says_what_they_are_cut_from(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probekit.restore import draw
    from probekit.restore.opened import open_encoder
    from probekit.weights import LAST

    run = train(data, tmp_path, epochs=1)[0]
    titles: list[str] = []
    figure = draw.views_figure

    def noted(images: Tensor, *, title: str, **how: Any) -> Figure:
        titles.append(title)
        return figure(images, title=title, **how)

    monkeypatch.setattr(draw, "views_figure", noted)
    draw.draw_run(open_encoder(run, LAST, CPU), None, seed=0)
    draw.draw_method("simclr", data, out=None, split=None, seed=0)
    assert len(titles) == 2
    assert all("here cut out of the test crop" in title for title in titles)
