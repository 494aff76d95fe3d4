"""The procedure on observers whose answers are known."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from probekit.exams import conflict
from probekit.exams.draw import Frame, Pixels, draw_test
from probekit.exams.examine import PLANS, Plan, answer, known
from probekit.exams.items import ITEMS
from probekit.exams.observers import BAG, IDEAL, ITSELF, PLAIN, TEMPLATE, Floats, Output, Plain, template
from probekit.exams.psychometric import areas, orders
from probekit.exams.scoring import changed_numbers, conflict_numbers, item_numbers, read_at
from probekit.exams.trials import Trial

FRAME = Frame(64, 0.08)
SMALL = Plan(train=21, held=6, test=8)


def test_a_plan_trains_on_all_levels_and_more_on_the_easy_ones() -> None:
    level, held = Plan(train=21, held=6, test=8).training(7)
    assert np.bincount(level[~held]).tolist() == [3, 3, 3, 3, 7, 7, 7]
    assert level[held].tolist() == [3] * 6
    level, held = SMALL.training(1)
    assert (len(level), int(level.max()), int(held.sum())) == (27, 0, 0)
    for plan in PLANS.values():
        level, held = plan.training(7)
        assert np.bincount(level[~held])[-3:].sum() >= plan.train
        assert 7 * np.bincount(level[~held]).min() >= plan.train


def test_a_constant_is_at_chance_exactly_and_its_threshold_is_beyond_the_levels() -> None:
    item = ITEMS["landolt"]
    nothing = Plain(lambda images: np.ones((len(images), 3), np.float32))
    (found,) = answer(item, nothing, SMALL, [draw_test(item, 8, FRAME)], FRAME, [0])
    assert (areas(found[ITSELF].values) == 0.5).all()
    (told,) = item_numbers(item, FRAME.size, found)
    found_px = told["threshold"]["readable"]
    assert (found_px["value"], found_px["beyond"], found_px["ci_beyond"]) == (4.0, ">", [">", ">"])
    assert told["easy"]["p"] == 1.0
    assert not told["rising"]


class Cheat:
    """Sees in the drawing, whatever the noise, how much ink is right of the middle of the ink, by less for `blunt`."""

    def read(self, images: Pixels) -> Mapping[Output, Floats]:
        ink = images > 127
        x = np.arange(images.shape[2])
        columns = ink.sum(axis=1)
        middle = (columns * x).sum(axis=1) / np.maximum(columns.sum(axis=1), 1)
        return {ITSELF: np.stack([middle, (columns * x**2).sum(axis=1) / 1e4], axis=1).astype(np.float32)}


def test_seeds_change_the_training_pairs_and_not_the_test_pairs() -> None:
    item = ITEMS["landolt"]
    test = draw_test(item, 8, FRAME)
    (both,) = answer(item, Cheat(), SMALL, [test], FRAME, [0, 1])
    (one,) = answer(item, Cheat(), SMALL, [test], FRAME, [1])
    assert both[ITSELF].values.shape == (2, 7, 16)
    np.testing.assert_array_equal(both[ITSELF].values[1], one[ITSELF].values[0])
    assert (both[ITSELF].values[0] != both[ITSELF].values[1]).any()


def test_a_bag_of_patches_reads_gaps_and_no_binding() -> None:
    frame, plan = Frame(128, 0.02), Plan(train=40, held=8, test=30)
    local = ITEMS["landolt"]
    (found,) = answer(local, PLAIN[BAG], plan, [draw_test(local, 30, frame)], frame, [0])
    assert areas(found[ITSELF].values)[0, -1] > 0.95
    whole = ITEMS["bind"]
    (found,) = answer(whole, PLAIN[BAG], plan, [draw_test(whole, 30, frame)], frame, [0])
    assert areas(found[ITSELF].values)[0, 0] < 0.7


def test_the_template_is_the_matched_filter_and_nobody_is_better() -> None:
    """d' of the matched filter is the length of the difference over the noise (Green & Swets 1966)."""
    item, frame = ITEMS["vernier"], Frame(64, 0.12)
    images, clean = draw_test(item, 200, frame)[0], draw_test(item, 200, frame, clean=True)[0]
    values = template(images, clean).reshape(-1, 2)
    length = np.sqrt(((clean[:, 1].astype(float) - clean[:, 0]) ** 2).sum(axis=(1, 2))) * 0.7
    apart = values[:, 1] - values[:, 0]
    assert apart.mean() == pytest.approx(length.mean(), rel=0.15)  # noise that is cut at black and white is less
    expected = known(item, 200, frame)
    assert areas(expected[TEMPLATE][ITSELF].values)[0, -1] > 0.9
    assert set(expected) == {TEMPLATE, IDEAL}
    assert (areas(expected[IDEAL][ITSELF].values)[0, -1:] == 1).all()


def test_read_at_is_the_mean_over_seeds_and_levels() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 40)).astype(np.float32)
    values[..., 1::2] += 1
    found = read_at(values)
    assert found["readable"]["value"] == pytest.approx(areas(values).mean())
    assert found["present"]["value"] == pytest.approx(orders(values).mean())
    low, high = found["readable"]["ci"]
    assert low < found["readable"]["value"] < high
    assert found["p"] < 0.001
    assert read_at(rng.normal(size=(1, 1, 80)).astype(np.float32))["p"] > 0.01


def trial(values: Sequence[float]) -> Trial:
    array = np.array(values, np.float32)[None, None]
    return Trial(array, array, ("one",))


def test_what_is_kept_of_a_read_out_is_what_it_reads_above_chance() -> None:
    plain = {ITSELF: trial([0, 1] * 10)}
    changed = {ITSELF: trial([0, 1] * 5 + [1, 0] * 5)}
    (told,) = changed_numbers(plain, changed)
    assert told["area"] == 0.5
    assert told["kept"] == 0.0
    (told,) = changed_numbers(plain, plain)
    assert told["kept"] == 1.0
    (told,) = changed_numbers(changed, plain)
    assert told["kept"] is None


class Knows:
    """Reads the two cues of navon, each with a strength of its own."""

    def __init__(self, whole: float, element: float) -> None:
        self.strengths = whole, element

    def read(self, images: Pixels) -> Mapping[Output, Floats]:
        # Scenes come in the order of CELLS: what is read is planted by their number.
        cells = np.array(conflict.CELLS, np.float32)[np.arange(len(images)) % 4]
        noise = np.random.default_rng(len(images)).normal(0, 0.05, cells.shape)
        return {ITSELF: ((cells - 0.5 + noise) * self.strengths).astype(np.float32)}


@pytest.mark.parametrize(("strengths", "expected"), [((1.0, 0.0), 1.0), ((0.0, 1.0), 0.0)])
def test_who_reads_one_cue_alone_follows_it(strengths: tuple[float, float], expected: float) -> None:
    found = conflict.answer(Knows(*strengths), conflict.Plan(12, 6), FRAME, [0])
    (told,) = conflict_numbers(found, FRAME.size)
    assert told["follows"] == [expected] * len(conflict.RADII)
    assert told["whole"] == ([1.0] * 3 if expected else pytest.approx([0.5] * 3, abs=0.35))
    assert told["element"] == ([1.0] * 3 if not expected else pytest.approx([0.5] * 3, abs=0.35))
    assert told["equal"] is None


def test_an_answer_for_the_whole_has_its_sign_and_none_counts_one_half() -> None:
    """Circle of squares, then square of discs: below 0 says circle of discs, above square of squares."""
    found = conflict.followed(trial([-1, 1, 1, -1, -1, -1, 0, 2]))
    assert found[0, 0].tolist() == [[1, 1], [0, 0], [1, 0], [0.5, 1]]


def test_scenes_of_conflict_differ_in_two_factors_alone() -> None:
    scenes = conflict.draw(4.0, 3, Frame(128, 0.001), seed=0, split="test") > 127
    ink = scenes.sum(axis=(2, 3))
    assert (ink.max(axis=1) <= 1.05 * ink.min(axis=1)).all()  # elements of equal ink
    assert (scenes[:, 0] != scenes[:, 1]).any()
    assert (scenes[:, 0] != scenes[:, 2]).any()
