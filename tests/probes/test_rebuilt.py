"""Rebuilt evidence: decoders whose answers are known, and the arithmetic in loops.

Alone: pytest tests/probes/test_rebuilt.py
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from probekit.data.truth import read_truth
from probekit.measurement import read_result
from probekit.probes.measure import Conditions, read_labels
from probekit.probes.measurements.reconstruction import ALL, ONE, Reconstruction
from probekit.probes.rebuilt import (
    MARGINS,
    Question,
    Rebuild,
    Side,
    answer,
    baselines,
    corruptions,
    hidden,
    nearer,
    neighbours,
    questions,
)
from tests.datasets import noise_npz, small_shapes
from tests.typed import typed

NOTHING_LEFT = ("in-painting", "mean", "noise")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    """Of 12 images of rect-tri, 0 and 1; the mean lies halfway."""
    info = small_shapes(tmp_path_factory.mktemp("rebuilt") / "a.h5", n=12, n_test=12, size=64)
    truth = read_truth(info, "test", 12)
    images = (truth.split.images / 255).astype(np.float32)
    others = {name: (found.images / 255).astype(np.float32) for name, found in truth.counterfactuals.items()}
    return list(questions(images, others, mean=0.5, seed=0))


def shares(asked: list[Question], rebuild: Rebuild) -> dict[tuple[str, str, int, str], float]:
    found = (answer(question, rebuild, seed=0) for question in asked)
    return {(a["factor"], a["places"], a["margin"], a["corruption"]): a["right"]["value"] for a in found if a["n"]}


def test_every_question_is_asked(asked: list[Question]) -> None:
    found = {(q.factor, q.places, q.margin, q.corruption) for q in asked}
    assert len(found) == len(asked) == 2 * 2 * 7
    assert {(q.margin, q.corruption) for q in asked if q.margin} == {(MARGINS[1], "in-painting")}
    assert {q.corruption for q in asked} == {"pixel-shuffling", "intensity", "blur", *NOTHING_LEFT}
    assert sum(len(q.sides[0].true) for q in asked if q.places == ONE) > 0


def test_the_truth_is_right_and_the_counterfactual_wrong(asked: list[Question]) -> None:
    assert set(shares(asked, lambda side: side.true).values()) == {1.0}
    assert set(shares(asked, lambda side: side.other).values()) == {0.0}
    for question in asked:
        if len(question.sides[0].true):
            assert answer(question, lambda side: side.true, seed=0)["restored"]["value"] == pytest.approx(1)
            assert answer(question, lambda side: side.other, seed=0)["restored"]["value"] == pytest.approx(-1)


def test_an_input_halfway_between_both_is_a_tie(asked: list[Question]) -> None:
    found = shares(asked, lambda side: side.inputs)
    assert {share for (*_, corruption), share in found.items() if corruption == "mean"} == {0.5}
    assert {nearer(q.sides[0].inputs, q.sides[0])[0].tolist()[0] for q in asked if q.corruption == "mean"} == {0.5}
    blurred = [share for (*_, corruption), share in found.items() if corruption == "blur"]
    assert min(blurred) >= 0.5
    assert max(blurred) > 0.5, "a blurred image tells what it was"


def test_what_does_not_depend_on_what_is_seen_is_right_once_and_wrong_once(asked: list[Question]) -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((1, 64, 64), np.float32)
    for rebuild in (baselines(picture)["mean training image"], lambda side: np.broadcast_to(picture, side.true.shape)):
        assert set(shares(asked, rebuild).values()) == {0.5}


def test_nothing_can_be_told_of_evidence_of_which_nothing_is_left(asked: list[Question]) -> None:
    """Both sides look alike: a decoder is right once and wrong once, and so is a copy of the neighbours."""
    for question in asked:
        x, y = question.sides
        if question.places == ALL and question.corruption in NOTHING_LEFT:
            np.testing.assert_array_equal(x.inputs, y.inputs)
    found = shares(asked, neighbours)
    assert {share for (_, places, *_), share in found.items() if places == ALL} == {0.5}


def test_both_sides_are_corrupted_alike_in_the_region_and_nowhere_else(asked: list[Question]) -> None:
    for question in asked:
        x, y = question.sides
        np.testing.assert_array_equal(x.region, y.region)
        np.testing.assert_array_equal(x.true, y.other)
        np.testing.assert_array_equal(x.other, y.true)
        for side in (x, y):
            np.testing.assert_array_equal(side.inputs[~side.region], side.true[~side.region])
            assert side.inputs.min(initial=0) >= 0
            assert side.inputs.max(initial=1) <= 1
        if question.corruption in NOTHING_LEFT:
            np.testing.assert_array_equal(x.inputs[x.region], y.inputs[y.region])
        if question.corruption == "in-painting":
            for image, region in zip(x.inputs, x.region, strict=True):
                assert len(np.unique(image[region])) == 1
        if question.corruption == "pixel-shuffling":
            for image, true, region in zip(x.inputs, x.true, x.region, strict=True):
                np.testing.assert_array_equal(np.sort(image[region]), np.sort(true[region]))


def test_intensities_are_bent_by_a_monotone_curve() -> None:
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8).repeat(40, 0)
    made = corruptions(0.5)["intensity"](x, np.ones(x.shape, bool), np.random.default_rng(0)).reshape(40, -1)
    steps = np.diff(made, axis=1)
    rising, falling = (steps >= -1e-6).all(1), (steps <= 1e-6).all(1)
    assert (rising | falling).all()
    assert 5 < rising.sum() < 35


def test_distances_are_those_of_loops() -> None:
    rng = np.random.default_rng(0)
    true, other, rebuilt = rng.random((3, 5, 6, 7)).astype(np.float32)
    region = rng.random((5, 6, 7)) < 0.4
    right, along = nearer(rebuilt, Side(true, other, true, region))
    for k in range(5):
        to_true = to_other = between = 0.0
        for i in range(6):
            for j in range(7):
                if region[k, i, j]:
                    to_true += (float(rebuilt[k, i, j]) - float(true[k, i, j])) ** 2
                    to_other += (float(rebuilt[k, i, j]) - float(other[k, i, j])) ** 2
                    between += (float(true[k, i, j]) - float(other[k, i, j])) ** 2
        assert right[k] == (to_true < to_other)
        assert along[k] == pytest.approx((to_other - to_true) / between, rel=1e-5)


def dots(*places: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Squares at (row, column) of some side, in a frame of 24 px."""
    found = np.zeros((1, 24, 24), bool)
    for row, column, side in places:
        found[0, row : row + side, column : column + side] = True
    return found


def test_the_largest_place_is_hidden_with_what_is_around_it() -> None:
    evidence = dots((2, 2, 3), (10, 10, 4), (14, 14, 1))  # the last touches the second at a corner
    np.testing.assert_array_equal(hidden(evidence, ALL, 0), evidence)
    np.testing.assert_array_equal(hidden(evidence, ONE, 0), dots((10, 10, 4), (14, 14, 1)))
    around = np.zeros((1, 24, 24), bool)
    for i, j in np.argwhere(hidden(evidence, ONE, 0)[0]):
        around[0, max(0, i - 4) : i + 5, max(0, j - 4) : j + 5] = True
    np.testing.assert_array_equal(hidden(evidence, ONE, 4), around)
    assert not hidden(dots(), ONE, 4).any()


def test_a_decoder_that_reads_the_other_place_is_right() -> None:
    """Two dots are both there or both not; one is hidden, and the other one tells."""
    both = dots((2, 2, 3), (15, 15, 4))
    images = np.concatenate([both, ~both & False]).astype(np.float32)
    found = questions(images, {"dots": np.concatenate([~both & False, both]).astype(np.float32)}, mean=0.5, seed=0)

    def read(side: Side) -> NDArray[np.float32]:
        return np.broadcast_to(side.inputs[:, 2:3, 2:3], side.inputs.shape)

    for question in found:
        if question.corruption in NOTHING_LEFT and question.places == ONE:
            assert answer(question, read, seed=0)["right"]["value"] == 1
            assert answer(question, neighbours, seed=0)["right"]["value"] == 0.5


def test_images_with_one_place_are_no_question_about_the_rest() -> None:
    images = dots((2, 2, 3)).astype(np.float32)
    found = [q for q in questions(images, {"dot": 0 * images}, mean=0.5, seed=0) if q.places == ONE]
    answers = [answer(question, lambda side: side.true, seed=0) for question in found]
    assert {(a["n"], a["right"]["value"], a["restored"]["ci"]) for a in answers} == {(0, None, None)}


@pytest.mark.parametrize("name", ["simclr", None])
def test_what_has_no_decoder_is_refused_in_one_line(name: str | None, tmp_path: Path) -> None:
    labels = read_labels(small_shapes(tmp_path / "a.h5", n=4, n_test=4, size=16))
    opened: Any = None if name is None else SimpleNamespace(name=name, decodes=False)
    conditions = Conditions(labels, "tuned", 0, "cpu", Console(quiet=True), opened=opened)
    found = "simclr, which has none" if name else "an encoder from elsewhere"
    with pytest.raises(ValueError, match=f"expected a run with a decoder for --reconstruction, found {found}") as error:
        Reconstruction().check(conditions)
    assert "\n" not in str(error.value)


def test_without_baselines_there_are_none() -> None:
    """What is not asked for is not computed, either: there is nothing here that it could be computed of."""
    nothing: Any = None
    rows: dict[str, list[dict[str, Any]]] = {"linear": [{"kind": "encoder"}], "reconstruction": []}
    Reconstruction().rest(nothing, nothing, rows)
    assert rows["reconstruction"] == []


@pytest.mark.usefixtures("plain_pictures", "few_baselines", "few_strengths")
def test_the_command_asks_a_run_with_a_decoder(tmp_path: Path) -> None:
    small_shapes(tmp_path / "data/shapes.h5", n=8, n_test=12, size=32)
    small = ("--epochs", "1", "--batch-size", "4", "--set", "model.width=4", "--set", "model.depth=2")
    done = typed("pretrain", "conrec", "--preset", "quick", "--name", "conrec", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = typed("probe", "conrec", "--reconstruction", "--reconstruction-n", "11", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Rebuilt evidence. Up to 11 images." in " ".join(shown.stdout.split())
    content = json.loads((tmp_path / "runs/conrec/results/reconstruction-last.json").read_text())
    reader = read_result(content)
    assert isinstance(reader, Reconstruction)
    assert content["command"] == "probekit probe conrec --reconstruction --reconstruction-n 11"
    names = [row["name"] for row in content["rows"]]
    assert names == ["conrec last", "random weights", *baselines(np.zeros((1, 32, 32), np.float32))]
    for row in content["rows"]:
        for found in row["answers"]:
            if found["places"] == ALL and found["corruption"] in NOTHING_LEFT:
                assert found["right"]["value"] == 0.5, "both sides look alike"
    assert list(reader.main_scores(content["rows"][0])) == [
        f"rebuilt: {factor}, {ONE}, in-painting" for factor in ("corner", "triangle")
    ]
    assert len(reader.numbers(content["rows"][0])) == 2 * 2 * 7

    typed("import", str(noise_npz(tmp_path / "a.npz")), "--out", "noise.h5", cwd=tmp_path)
    for words, message in (
        (("conrec", "--reconstruction", "--data", "noise.h5"), "expected images of a generator for --reconstruction"),
        (("conrec", "--reconstruction-n", "3"), "expected --reconstruction-n with --reconstruction"),
    ):
        done = typed("probe", *words, "-q", cwd=tmp_path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert message in line
