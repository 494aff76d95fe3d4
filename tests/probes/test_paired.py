"""What is said of two rows on the same images, with p-values by hand. Alone: pytest tests/probes/test_paired.py"""

from typing import Any

import numpy as np
import pytest

from probekit.probes.scores import against_baselines, factors_beside
from probekit.statistics import against_share, verdict


def row(name: str, right: int, of: int = 40, first: int = 0) -> dict[str, Any]:
    """A row that gets `right` of the images right, from number `first` on."""
    labels = [0] * of
    hits = np.zeros(of, bool)
    hits[first : first + right] = True
    return {"name": name, "labels": labels, "predicted": np.where(hits, 0, 1).tolist()}


def test_a_higher_number_alone_is_not_above() -> None:
    """Five images against none: p = 2 / 2^5 = 0.0625; six: 2 / 2^6 = 0.031."""
    assert against_baselines([row("e", 30), row("f", 25)]) == {"f": "not told apart from"}
    assert against_baselines([row("e", 30), row("f", 24)]) == {"f": "above"}
    assert against_baselines([row("f", 24), row("e", 30)]) == {"e": "below"}


def test_the_test_is_paired_and_holm_counts_the_baselines() -> None:
    """30 against 24 right says nothing where they are right on other images; two baselines ask for p < 0.025."""
    assert against_baselines([row("e", 30), row("f", 24, first=16)]) == {"f": "not told apart from"}
    assert against_baselines([row("e", 30), row("f", 24), row("g", 24)]) == dict.fromkeys("fg", "not told apart from")


def test_which_of_several_classes_chance_says_does_not_matter() -> None:
    """25 of 36 right, 12 a class: binomial against 1/3, p = 1e-5, whichever class is said of every image."""
    labels = np.repeat([0, 1, 2], 12)
    right = np.r_[np.ones(12, bool), np.arange(12) < 9, np.arange(12) < 4]
    encoder = {"name": "e", "labels": labels.tolist(), "predicted": np.where(right, labels, (labels + 1) % 3).tolist()}
    said = [{"name": "chance", "labels": labels.tolist(), "predicted": [k] * 36} for k in range(3)]
    assert [against_baselines([encoder, chance]) for chance in said] == [{"chance": "above"}] * 3
    assert against_share(25, 36, 1 / 3) == pytest.approx(1.08e-5, rel=0.2)
    assert against_baselines([row("e", 20), row("one", 40)]) == {"one": "below"}


def test_without_predictions_or_on_other_images_nothing_is_said() -> None:
    bare = {"name": "f", "accuracy": 0.0}
    other = row("f", 0) | {"labels": [1] * 40}
    assert against_baselines([row("e", 40), bare]) == {}
    assert against_baselines([row("e", 40), other]) == {}
    assert against_baselines([{"name": "e"}, row("f", 0)]) == {}


def test_verdict_needs_less_than_five_per_cent() -> None:
    assert [verdict(d, p) for d, p in ((1, 0.049), (-1, 0.049), (1, 0.05))] == ["above", "below", "not told apart from"]


def factors(**right: tuple[int, int]) -> dict[str, Any]:
    """A row whose factors are right on as many of 40 images as the first number says, from the second one on."""
    index = np.arange(40)
    return {
        "labels": [0] * 40,
        "factors": {f: {"right": ((index >= a) & (index < a + n)).tolist()} for f, (n, a) in right.items()},
    }


def test_factors_are_compared_on_the_same_images() -> None:
    """Six images against none: p = .031, enough for one factor and not for two; seven: 2 / 2^7 = .016, enough."""
    assert factors_beside(factors(a=(30, 0)), factors(a=(24, 0))) == {"a": "above"}
    assert factors_beside(factors(a=(24, 0)), factors(a=(30, 0))) == {"a": "below"}
    assert factors_beside(factors(a=(30, 0)), factors(a=(24, 16))) == {"a": "not told apart from"}
    two = factors_beside(factors(a=(30, 0), b=(30, 0)), factors(a=(24, 0), b=(30, 0)))
    assert two == dict.fromkeys("ab", "not told apart from")
    two = factors_beside(factors(a=(31, 0), b=(30, 0)), factors(a=(24, 0), b=(30, 0)))
    assert two == {"a": "above", "b": "not told apart from"}


def test_of_factors_that_one_row_lacks_or_on_other_images_nothing_is_said() -> None:
    first = factors(a=(30, 0))
    assert factors_beside(first, {}) == factors_beside(first, factors(b=(9, 0))) == {}
    assert factors_beside(first, factors(a=(0, 0)) | {"labels": [1] * 40}) == {}
    assert factors_beside(first, {"labels": [0] * 40, "factors": {"a": {"accuracy": 0.5}}}) == {}
