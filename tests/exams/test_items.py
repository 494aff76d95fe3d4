"""The images of the exam: what differs within a pair, what two pairs share, and who can answer."""

import numpy as np
import pytest

from generators import GENERATORS
from generators.certify import equal_multisets
from probekit.exams.draw import CHANGES, GROUND, INK, Frame, draw_changed, draw_test, draw_training, drawer, pairs
from probekit.exams.items import ITEMS, LOCAL, blind
from probekit.exams.observers import bag, ideal

FRAME = Frame(128, 0.08)
WHOLES = [name for name, item in ITEMS.items() if item.kind != LOCAL]


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_names_a_factor_two_of_its_values_and_levels_from_hard_to_easy(name: str) -> None:
    item = ITEMS[name]
    generator = GENERATORS[item.generator]
    factor = next(factor for factor in generator.factors if factor.name == item.factor)
    assert factor.kind == "class"
    assert len({*item.values}) == 2
    assert max(item.values) < len(factor.values)
    assert list(item.levels) == sorted(set(item.levels))
    assert item.px(256) == [2 * level for level in item.levels]
    for level in range(len(item.levels)):
        made = drawer(item, level, FRAME)
        assert made.values["noise_sd"] == FRAME.noise
        assert made.values["independent_noise"]


@pytest.mark.parametrize("name", ITEMS)
def test_the_ideal_reader_is_right_of_every_drawing_at_the_easiest_level(name: str) -> None:
    item, level = ITEMS[name], len(ITEMS[name].levels) - 1
    shown = draw_test(item, 20, FRAME, clean=True)[level]
    found = ideal(item, drawer(item, level, FRAME, clean=True), shown)
    np.testing.assert_array_equal(found, np.tile([-1, 1], 20))


@pytest.mark.parametrize("name", WHOLES)
def test_pairs_of_wholes_hold_the_same_patches(name: str) -> None:
    """By counting patches of 9 px in plain Python; the two differ as pictures."""
    one, other = draw_test(ITEMS[name], 1, FRAME, clean=True)[0, 0]
    patches = [
        sorted(image[y : y + 9, x : x + 9].tobytes() for y in range(0, 120) for x in range(0, 120))
        for image in (one > 127, other > 127)
    ]
    assert patches[0] == patches[1]
    assert (one != other).any()
    np.testing.assert_array_equal(bag(one[None]), bag(other[None]))


@pytest.mark.parametrize("name", ITEMS)
def test_images_of_a_pair_have_noise_of_their_own_about_the_two_grey_levels(name: str) -> None:
    item = ITEMS[name]
    level = len(item.levels) - 1
    shown = draw_test(item, 4, FRAME)[level].astype(float)
    clean = draw_test(item, 4, FRAME, clean=True)[level]
    for role in range(2):
        assert shown[:, role][clean[:, role] == 0].mean() == pytest.approx(255 * GROUND, abs=1)
        assert shown[:, role][clean[:, role] == 255].mean() == pytest.approx(255 * INK, abs=3)
    ground = (clean == 0).all(axis=1)
    noise = [shown[:, role][ground] for role in range(2)]
    assert np.std(noise[0]) == pytest.approx(255 * FRAME.noise, rel=0.05)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02


@pytest.mark.parametrize(("size", "side"), [(64, 5), (81, 5), (128, 9), (200, 9)])
@pytest.mark.parametrize("name", WHOLES)
def test_both_answers_to_a_whole_hold_the_same_patches_in_frames_of_any_size(name: str, size: int, side: int) -> None:
    assert blind(size) == side
    clean = Frame(size, 0.0)
    shown = pairs(ITEMS[name], drawer(ITEMS[name], 0, clean, clean=True), 0, seed=3, split="test", n=3)
    for patch in (3, 5, 9)[: 2 + (side == 9)]:
        assert equal_multisets(shown[:, 0], shown[:, 1], patch).all()
    np.testing.assert_array_equal(bag(shown[:, 0]), bag(shown[:, 1]))


def test_of_any_number_the_first_pairs_are_the_same_and_splits_seeds_and_levels_share_none() -> None:
    item = ITEMS["landolt"]
    made = drawer(item, 6, FRAME)

    def drawn(level: int, seed: int, split: str, n: int) -> np.ndarray:
        return pairs(item, made, level, seed=seed, split=split, n=n)

    first = drawn(6, 0, "test", 5)
    np.testing.assert_array_equal(first[:2], drawn(6, 0, "test", 2))
    for other in (drawn(5, 0, "test", 5), drawn(6, 1, "test", 5), drawn(6, 0, "train", 5)):
        assert not (first == other).all(axis=(2, 3)).any()


def test_training_pairs_stand_in_the_order_that_was_asked_for() -> None:
    level = np.array([6, 0, 6, 3])
    found = draw_training(ITEMS["landolt"], level, FRAME, 0)
    own = {number: draw_training(ITEMS["landolt"], np.full(2, number), FRAME, 0) for number in (0, 3, 6)}
    np.testing.assert_array_equal(found, [own[6][0], own[0][0], own[6][1], own[3][0]])


def test_changes_change_what_they_say() -> None:
    item, frame = ITEMS["landolt"], Frame(128, 0.02)
    shown = {change: draw_changed(item, change, 6, frame)[0].astype(float) for change in CHANGES}
    plain = draw_test(item, 6, frame)[-1].astype(float)

    def ink(images: np.ndarray) -> float:
        return float((abs(images - np.median(images)) > 60).mean())

    assert np.median(shown["dark on light"]) > 200
    assert shown["a quarter of the contrast"].max() < 255 * (GROUND + (INK - GROUND) / 4 + 0.1)
    assert ink(shown["half the size"]) == pytest.approx(ink(plain) / 4, rel=0.1)
    half = draw_changed(item, "mirrored", 1, Frame(128, 0.01))[0, 0, 0] > 127  # a ring that is open to the left
    columns = np.flatnonzero(half.any(axis=0))
    row = half[np.flatnonzero(half.any(axis=1)).mean().astype(int)]
    assert not row[columns[0] : columns[0] + 6].any()
    assert row[columns[-1] - 4 : columns[-1]].any()
