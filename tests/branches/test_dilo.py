"""DiLo: runs of any placement, the masks of a file, refusals, pictures.

Alone: pytest tests/branches/test_dilo.py
"""

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from probekit.branches.base import sources_of
from probekit.branches.dilo import DiLo
from probekit.data.foreground import foreground
from probekit.data.split import CPU, open_split
from probekit.h5 import read_info, read_split
from probekit.restore import draw
from probekit.restore.build import build_method
from probekit.restore.opened import open_encoder
from probekit.settings import Asked
from probekit.train.plan import plan
from probekit.train.pretrain import resume
from probekit.views.paste import pasted
from probekit.weights import LAST
from tests.branches.attached import N, configured, only, step_of
from tests.datasets import edited, small_shapes
from tests.h5.test_photographs import photographs
from tests.train.test_loop import assert_same, assert_same_run, content, quiet, stop_after, train

ALL = {"branch.dilo.share": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, n=16, n_test=4, size=32)
    return path


def noting(seen: list[Tensor], made: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
    """The same function, which notes one of its arguments."""

    def noted(*given: Any) -> Any:
        seen.append(given[place])
        return made(*given)

    return noted


def test_the_step_trains_on_what_is_pasted() -> None:
    """What the maker is given: of the batch's images and their masks, by what is drawn first."""
    step = step_of(configured("moco-v2", "dilo", branch__dilo__share=0.6, branch__dilo__background="any"))
    branch: DiLo = only(step.method)
    branch.take_masks(lambda name: torch.randint(0, 256, (N, 1, 16, 16), dtype=torch.uint8))
    given: list[Tensor] = []
    step.make = noting(given, step.maker)
    index = torch.tensor([3, 11, 5, 0, 20, 7, 2, 9])
    state = step.generator.get_state()
    views = step.views(index, step.images[index])
    step.generator.set_state(state)
    expected = branch.paste(index, step.images[index], 2, step.generator)
    assert torch.equal(given[0], expected)
    assert torch.equal(views.inputs, step.maker(expected, step.maker.draw(8, step.generator)).inputs)
    changed = (expected.view(2, 8, 1, 16, 16) != step.images[index]).flatten(2).any(2)
    assert 0 < changed.sum() < 16
    assert not torch.equal(changed[0], changed[1]), "each view is pasted on its own"


def test_masks_are_those_of_the_batchs_images(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(configured("simclr", "dilo"))
    masks = torch.randint(0, 256, (N, 1, 16, 16), dtype=torch.uint8)
    only(step.method).take_masks(lambda name: masks)
    seen: list[Tensor] = []
    monkeypatch.setattr("probekit.branches.dilo.pasted", noting(seen, pasted, 1))
    index = torch.tensor([3, 11, 5, 0, 20, 7, 2, 9])
    step(index, step.images[index])
    assert torch.equal(seen[0], masks[index])


def test_companions_are_as_they_were() -> None:
    """Only the views that a method trains on are pasted: the positives of xcorr are views of whole images."""
    step = step_of(configured("simclr", "xcorr", "dilo", branch__dilo__share=1.0))
    given: list[Tensor] = []
    step.make_companions = noting(given, step.of_companions)
    step(torch.arange(8), step.images[:8])
    (images,) = given
    assert all(any(torch.equal(image, each) for each in step.images[:N]) for image in images)


def test_the_foreground_is_where_the_masks_of_the_file_are(data: Path) -> None:
    info = read_info(data)
    masks = read_split(data, "train", masks=True).masks
    assert masks is not None
    assert info.mask_names == ("rectangle", "triangle", "evidence:corner", "evidence:triangle")
    objects = masks & 3
    assert (masks > 0).sum() > (objects > 0).sum(), "evidence lies beside the objects, too"
    found = foreground(info, "train", "", n=16, max_size=1024)
    assert found.shape == (16, 1, 32, 32)
    np.testing.assert_array_equal(found[:, 0], np.where(objects > 0, 255, 0))
    for bit, name in enumerate(info.mask_names):
        one = foreground(info, "train", name, n=10, max_size=1024)
        np.testing.assert_array_equal(one[:, 0], np.where(masks[:10] >> bit & 1, 255, 0))
    small = foreground(info, "train", "", n=16, max_size=16)
    means = 255 * (objects > 0).reshape(16, 16, 2, 16, 2).mean((2, 4))
    assert np.abs(small[:, 0].numpy() - means).max() <= 0.5
    assert open_split(data, "train", CPU, max_size=16).images.shape[2:] == small.shape[2:]


def test_it_is_read_in_parts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = foreground(read_info(data), "train", "", n=16, max_size=1024)
    monkeypatch.setattr("probekit.data.foreground.CHUNK_BYTES", 3 * 32 * 32)
    assert torch.equal(foreground(read_info(data), "train", "", n=16, max_size=1024), whole)


def test_a_run_is_the_same_wherever_the_images_are(data: Path, tmp_path: Path) -> None:
    settings: list[Mapping[str, Any]] = [ALL, {**ALL, "data.placement": "host"}, {"branch.dilo.share": 0.0}]
    first, second, other = (
        content(train(data, tmp_path, branches=("dilo",), name=f"run{k}", epochs=1, options=options)[0])["method"]
        for k, options in enumerate(settings)
    )
    assert_same(first, second)
    assert any(not torch.equal(value, first[key]) for key, value in other.items())


def test_a_stopped_run_goes_on_as_if_it_never_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(data, tmp_path, branches=("dilo",), name="whole")[0]
    stop_after(1, monkeypatch)
    stopped, ended = train(data, tmp_path, branches=("dilo",), name="stopped")
    assert not ended
    monkeypatch.undo()
    resume(stopped, epochs=None, device="cpu", console=quiet())
    assert_same_run(whole, stopped)


def test_a_run_says_which_masks_are_its_foreground(data: Path, tmp_path: Path) -> None:
    for number, (options, names) in enumerate(
        (({}, "rectangle, triangle"), ({"branch.dilo.mask": "triangle"}, "triangle"))
    ):
        said, name = io.StringIO(), f"run{number}"
        console = Console(file=said, width=200)
        train(data, tmp_path, branches=("dilo",), name=name, epochs=1, options=options, console=console)
        assert f"dilo: the foreground is what these masks of the file show: {names}\n" in said.getvalue()


def test_photographs_are_cut_out_of_the_test_crop_which_has_the_masks(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 24)
    asked = Asked("simclr", preset="quick", options={"train.batch_size": 8}, device="cpu")
    whole = plan(asked, path, quiet())
    assert type(whole.train.images).__name__ == "Photographs"
    said = io.StringIO()
    train(path, tmp_path, branches=("dilo",), epochs=1, console=Console(file=said, width=200))
    assert "views are cut out of the test crop of each photograph" in said.getvalue()


def refused(data: Path, *overrides: str) -> str:
    asked = Asked("moco-v2", preset="quick", branches=("dilo",), overrides=overrides, device="cpu")
    with pytest.raises(ValueError, match="mask") as error:
        plan(asked, data, quiet())
    (line,) = str(error.value).splitlines()
    return line


def test_a_file_without_masks_and_an_unknown_mask_are_refused(data: Path, tmp_path: Path) -> None:
    assert "unknown mask 'rectangel'" in refused(data, "branch.dilo.mask=rectangel")
    path = photographs(tmp_path / "a.h5", 24, masked=False)
    assert "found none; type: --data FILE" in refused(path)


def test_masks_that_show_nothing_are_refused(data: Path, tmp_path: Path) -> None:
    """The run would be the method's own by another name."""
    some, none, evidence = (Path(shutil.copy(data, tmp_path / f"{name}.h5")) for name in ("some", "none", "evidence"))
    with edited(some) as file:
        file["train/masks"][1:] = 0
    plan(Asked("moco-v2", preset="quick", branches=("dilo",), device="cpu"), some, quiet())
    with edited(none) as file:
        file["train/masks"][...] = file["train/masks"][...] & 0b1110
    assert "found the mask 'rectangle' of" in refused(none, "branch.dilo.mask=rectangle")
    with edited(none) as file:
        file["train/masks"][...] = 0
    assert "found the masks of" in refused(none)
    with edited(evidence) as file:
        file.attrs["mask_names"] = '["evidence:a", "evidence:b", "evidence:c", "evidence:d"]'
    assert "found evidence:a, evidence:b, evidence:c, evidence:d alone" in refused(evidence)


def test_of_two_branches_that_paste_one_is_refused() -> None:
    """The views are those of the first alone, so that what the other learns would be of images that it has not made."""
    for both in (("dilo", "cvsa"), ("cvsa", "dilo")):
        with pytest.raises(ValueError, match=f"found {both[0]} and {both[1]}; leave either out"):
            build_method(configured("simclr", *both), channels=1)
    build_method(configured("simclr", "cvsa", "dilo", branch__cvsa__weight=0.0), channels=1)


def test_a_picture_shows_what_is_pasted(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the foreground of every image is one grey; the run's own branch is left as it is."""
    run = train(data, tmp_path, branches=("dilo",), epochs=1, options={**ALL, "branch.dilo.blur": 0.0})[0]
    given: list[Tensor] = []

    def noted(*arguments: Any) -> Tensor:
        given.append(sources_of(*arguments))
        return given[-1]

    monkeypatch.setattr(draw, "sources_of", noted)
    opened = open_encoder(run, LAST, CPU)
    path, _ = draw.draw_run(opened, None, split="test", out=tmp_path / "a.png", seed=0)
    assert path.exists()
    draw.draw_run(opened, None, "conrec", split="test", out=tmp_path / "b.png", seed=0)
    (pasted_images,) = given
    masks = foreground(read_info(data), "test", "", n=4, max_size=1024).repeat(2, 1, 1, 1)
    images = open_split(data, "test", CPU, max_size=1024).images[:4].repeat(2, 1, 1, 1)
    for image, mask, source in zip(pasted_images, masks, images, strict=True):
        assert len(image[mask == 0].unique()) == 1
        assert torch.equal(image[mask > 0], source[mask > 0])
    assert only(opened.whole).resting
