"""What views leave of a class factor: recipes whose answers are known.

Alone: pytest tests/audit/test_audit.py
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from probekit.audit import draw, geometry, measure
from probekit.audit.asked import Chosen, chosen
from probekit.audit.measure import NUMBERS, Pair, Scenes, audit, counted, read_scenes, scenes_of, tallied
from probekit.audit.sides import sides
from probekit.audit.tables import audit_blocks
from probekit.config import ViewsConfig
from probekit.data.truth import Truth
from probekit.output.document import Table
from probekit.output.mosaic import GAP
from probekit.views import recipes
from probekit.views.recipes import RECIPES, Crops, Recipe, Views
from tests.datasets import noise_npz, small_shapes
from tests.typed import typed

WHOLE = (Crops(1, (2.0, 2.0), None),)  # no crop has twice the image's area: the whole image
MADE = {
    "identity": Recipe("", WHOLE, flip=0.0),
    "mirror": Recipe("", WHOLE, flip=2.0),
    "quarter": Recipe("", (Crops(1, (0.25, 0.25), None),), flip=0.5),
    "corrupted": Recipe("", WHOLE, corrupt=True, flip=0.0),
}


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recipe in MADE.items():
        monkeypatch.setitem(RECIPES, name, recipe)


@pytest.fixture(scope="module")
def landolt(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    info = small_shapes(tmp_path_factory.mktemp("audit") / "landolt.h5", generator="landolt", n=24, n_test=4, size=64)
    return read_scenes(info, 24)


def views_config(name: str, size: int) -> ViewsConfig:
    odds = {"pixel_shuffling": 1.0, "intensity": 1.0, "in_painting": 1.0, "out_painting": 1.0}
    return ViewsConfig(recipe=name, max_size=size, jitter=1.0, **odds)


def named(name: str, size: int = 64) -> Chosen:
    return Chosen(name, views_config(name, size), 1024)


def numbers(truth: Truth, name: str, *, views: int = 1, scenes: Scenes | None = None) -> dict[str, Any]:
    """Each number of the large crops, `[N]`, of the first class factor."""
    scenes = scenes or scenes_of(truth, 1024)
    found = tallied(scenes, named(name), sides(truth), views=views, seed=0)["large"]
    return dict(zip(NUMBERS, next(iter(found.sums.values())) / found.views, strict=True))


def test_the_identity_keeps_all(landolt: Truth) -> None:
    found = numbers(landolt, "identity", views=3)
    np.testing.assert_allclose(found["kept"], 1, atol=1e-6)
    assert found["all_left"].all()
    assert not any(found[name].any() for name in NUMBERS[2:])


def test_the_mirror_keeps_all_and_turns_right_into_left(landolt: Truth) -> None:
    found, opening = numbers(landolt, "mirror"), landolt.split.factors["opening"]
    np.testing.assert_allclose(found["kept"], 1, atol=1e-6)
    assert not found["equal"].any()
    np.testing.assert_array_equal(found["other_side"], np.isin(opening, (0, 2)))  # right and left, not up and down
    assert 0 < found["other_side"].mean() < 1


def test_what_is_painted_over_is_equal_and_has_no_side(landolt: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (recipes, geometry):
        monkeypatch.setattr(module, "corrupt_as", lambda views, drawn, tables: torch.full_like(views, 0.5))
    found = numbers(landolt, "corrupted")
    assert not found["kept"].any()
    assert not found["all_left"].any()
    assert found["none_left"].all()
    assert found["equal"].all()
    assert not found["other_side"].any()


def test_of_evidence_everywhere_the_crops_own_share_is_kept(landolt: Truth) -> None:
    scenes = scenes_of(landolt, 1024)
    whole = Scenes(scenes.images, scenes.others, {name: torch.ones(24, 64, 64) for name in scenes.others}, 1.0)
    found = tallied(whole, named("quarter"), sides(landolt), views=4, seed=0)["large"]
    assert found.views == 4
    kept, every, none = found.sums["opening"][:3] / 4
    assert not every.any()
    assert not none.any()
    assert kept == pytest.approx(np.full(24, 0.25), abs=0.02)  # sides are whole pixels
    assert 1 / np.concatenate(found.enlarged) ** 2 == pytest.approx(np.full(96, 0.25), abs=0.02)
    assert kept.mean() == pytest.approx((1 / np.concatenate(found.enlarged) ** 2).mean(), abs=1e-6)


@pytest.mark.parametrize(("difference", "equal"), [(0.9, True), (1.1, False)])
def test_pairs_are_equal_below_one_grey_level(difference: float, equal: bool) -> None:
    """Between two images each pixel but one agrees."""
    inputs = torch.full((1, 1, 1, 8, 8), 0.5)
    other = inputs.clone()
    other[..., 3, 4] += difference / 255
    boxes, flipped = torch.tensor([[[0, 0, 8, 8]]]), torch.tensor([[True]])
    own, others = (Views(x, x, boxes, flipped) for x in (inputs, other))
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    found = counted(Pair(own, others, torch.ones(1, 8, 8), seen, torch.ones(1)))
    assert found.flatten().tolist() == pytest.approx([1.0, 1.0, 0.0, float(equal), float(not equal)])


def test_small_crops_stand_apart_and_are_never_corrupted(landolt: Truth) -> None:
    found = tallied(scenes_of(landolt, 1024), named("swav"), sides(landolt), views=3, seed=0)
    assert {name: (tally.size, tally.views) for name, tally in found.items()} == {
        "large": ((64, 64), 4),  # two at once
        "small": ((24, 24), 12),
    }
    kept = {name: tally.sums["opening"][0].mean() / tally.views for name, tally in found.items()}
    assert kept["small"] < 0.5 < kept["large"]


def test_any_batches_give_the_same_numbers_of_what_is_not_random(
    landolt: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = numbers(landolt, "mirror", views=2)
    monkeypatch.setattr(measure, "PART", 5 * 64**2)
    after = numbers(landolt, "mirror", views=2)
    for name in NUMBERS:
        np.testing.assert_allclose(after[name], before[name], atol=1e-6)


def test_noise_of_its_own_does_not_make_a_counterfactual_differ(tmp_path: Path) -> None:
    """Where nothing is left of the factor the pair is equal, whatever noise the file's counterfactuals have."""
    noisy = {"noise_sd": 0.2, "independent_noise": True}
    info = small_shapes(tmp_path / "a.h5", generator="landolt", n=16, n_test=4, size=64, parameters=noisy)
    found = numbers(read_scenes(info, 16), "quarter", views=4)
    np.testing.assert_allclose(found["equal"], found["none_left"])
    assert 0 < found["equal"].mean() < 1


def test_sides_are_told_where_an_ideal_reader_reads(landolt: Truth, tmp_path: Path) -> None:
    found = sides(landolt)["opening"]
    np.testing.assert_array_equal(found.changed, np.isin(landolt.split.factors["opening"], (0, 2)))
    info = small_shapes(tmp_path / "circ-sq.h5", generator="circ-sq", n=8, n_test=4, size=64)
    assert all(s.changed is None and "has no ideal reader" in s.why for s in sides(read_scenes(info, 8)).values())
    info = small_shapes(tmp_path / "trace.h5", generator="trace", n=16, n_test=4, size=32)
    (small,) = sides(read_scenes(info, 16)).values()
    assert small.changed is None
    assert "the ideal reader errs about curve in" in small.why


def test_images_in_which_a_factor_does_not_show_are_left_out(tmp_path: Path) -> None:
    """Radius 0 makes round corners sharp: no pair differs, and nothing can be lost."""
    info = small_shapes(tmp_path / "a.h5", n=12, n_test=4, size=32, parameters={"corner_radius": 0})
    found = audit(read_scenes(info, 12), [named("simclr", 32)], views=2, seed=0, say=lambda line: None)
    by_factor = {row["factor"]: row for row in found["rows"]}
    assert (by_factor["corner"]["n"], by_factor["corner"]["undefined"]) == (0, 12)
    assert by_factor["corner"]["kept"] == {"mean": None, "ci": None}
    assert by_factor["triangle"]["n"] > 0
    table, *notes = audit_blocks(found)
    assert isinstance(table, Table)
    assert "corner shows in no pixel of these images" in str(notes[0])


def test_enlargement_counts_pixels_of_the_file(landolt: Truth) -> None:
    asked = Chosen("identity", views_config("identity", 16), 32)  # 64 px are averaged to 32, viewed as 16
    found = audit(landolt, [asked], views=1, seed=0, say=lambda line: None)["rows"][0]
    assert found["enlarged"] == pytest.approx([0.25] * 3)
    assert found["kept"]["mean"] == pytest.approx(1, abs=1e-6)


def test_the_scale_bar_counts_pixels_of_the_file(landolt: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last line, whose images of 64 px are averaged to 16."""
    drawn: list[Figure] = []
    monkeypatch.setattr(draw, "save", lambda figure, out: drawn.append(figure))
    recipes = [Chosen("identity", views_config("identity", 32), 1024), Chosen("mirror", views_config("mirror", 16), 16)]
    draw.draw_audit(landolt, recipes, seed=0, out=Path("a.png"))
    (text,) = [text for text in drawn[0].axes[0].texts if text.get_text().endswith(" px")]
    (bar,) = drawn[0].axes[0].lines
    ends = np.asarray(bar.get_xdata())
    assert text.get_text() == "16 px"
    assert (ends[1] - ends[0]) / (1 - 2 * GAP) == pytest.approx(16 / 64)


def test_a_name_is_a_recipe_or_a_method_under_a_preset() -> None:
    (method,) = chosen("barlow-twins", preset="quick", settings=[])
    assert (method.name, method.views.recipe, method.views.max_size, method.max_size) == (
        "barlow-twins",
        "byol",
        32,
        128,
    )
    (recipe,) = chosen("whole", preset="paper", settings=["views.max_size=32"])
    assert (recipe.views.recipe, recipe.views.max_size) == ("whole", 32)
    (other,) = chosen("simclr", preset="paper", settings=["views.recipe=whole"])
    assert (other.name, other.recipe) == ("simclr", RECIPES["whole"])
    assert [each.name for each in chosen("all", preset="paper", settings=[])] == list(RECIPES)


@pytest.mark.usefixtures("plain_pictures")
def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    small_shapes(tmp_path / "data/landolt.h5", generator="landolt", n=12, n_test=4, size=64)
    shown = typed("audit", "swav", "--n", "12", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    assert "What views leave: 12 images of data/landolt.h5, train, 64x64 px, seed 0" in text
    assert "opening: nothing of it is left in" in text
    assert "next: probekit pretrain swav --data data/landolt.h5" in text
    assert (tmp_path / "data/landolt-audit-swav.png").exists()
    given = "--data data/landolt.h5 --preset quick --set views.jitter=0"
    other = typed("audit", "swav", "--n", "2", *given.split(), cwd=tmp_path)
    assert other.stdout.endswith(f"next: probekit pretrain swav {given}\n")
    asked = ("audit", "swav", "--n", "12", "--json", "--seed", "3")
    first, again = (json.loads(typed(*asked, cwd=tmp_path).stdout) for _ in range(2))
    assert first == again
    assert first["schema"] == "probekit-audit/1"
    assert [(row["recipe"], row["crops"], row["factor"]) for row in first["rows"]] == [
        ("swav", "large", "opening"),
        ("swav", "small", "opening"),
    ]
    assert typed("audit", "whole", "--n", "2", "-q", "--out", "x.png", cwd=tmp_path).stdout == ""
    assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simcrl",), "unknown recipe or method 'simcrl'.*did you mean 'simclr'"),
        (("simclr", "--set", "train.epochs=3"), "found train.epochs, which changes no view"),
        (("simclr", "--set", "views.recipe=wohle"), "unknown recipe 'wohle'.*did you mean 'whole'"),
        (("simclr", "--set", "views.max_size=0"), "views.max_size"),
        (("all", "--set", "views.recipe=whole"), "expected one recipe with --set views.recipe"),
        (("simclr", "--out", "a.jpg"), "expected a picture NAME.png"),
        (("simclr", "--data", "none.h5"), "expected a dataset file none.h5, found none"),
        (("simclr", "--data", "noise.h5"), "expected images of a generator.*found others in noise.h5"),
        (("simclr", "--data", "broken.h5"), "broken.h5"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    small_shapes(tmp_path / "data/shapes.h5", n=4, n_test=2)
    (tmp_path / "broken.h5").write_bytes(b"no dataset")
    if "noise.h5" in words:
        typed("import", str(noise_npz(tmp_path / "a.npz")), "--out", "noise.h5", cwd=tmp_path)
    done = typed("audit", *words, "--n", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(message, line), line
