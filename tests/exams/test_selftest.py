"""Every check of the selftest with few images, and read-outs that it finds to be broken.

Alone: pytest tests/exams/test_selftest.py
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import norm

from probekit.exams import oracles, selftest
from probekit.exams.readout import Readout, ridge

QUICK = {
    "block averages": partial(selftest.block_averages, train=200, test=60),
    "mirror images": partial(selftest.mirror_images, train=100, test=100),
    "closed forms": partial(selftest.closed_forms, blocks=2),
    "encoders that see nothing": partial(selftest.blind, n=60),
    "certified wholes": partial(selftest.wholes, n=8),
    "details": partial(selftest.details, train=48, test=10),
    "simulated observers": partial(selftest.simulated, observers=16, many=50),
}
LOOSE = ("closed forms", "block averages", "details", "simulated observers")  # their tolerances are for more images


def test_every_check_is_here() -> None:
    assert QUICK.keys() == selftest.CHECKS.keys()


@pytest.mark.parametrize("name", QUICK)
def test_a_check_finds_what_theory_says(name: str) -> None:
    rows = QUICK[name](0)
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        spare = 3 if name in LOOSE else 1
        assert abs(row["found"] - row["expected"]) <= spare * row["tolerance"], row["name"]
        assert row["passed"] == (abs(row["found"] - row["expected"]) <= row["tolerance"])


def test_the_table_says_what_is_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [selftest._row("sound: area", 0.5, 0.5, 0.0), selftest._row("other: area", 1.0, 1.2, 0.1)]
    monkeypatch.setattr(selftest, "CHECKS", {"two": lambda seed: rows, "none": lambda seed: []})
    assert selftest.run_selftest(0, Console(width=100)) == rows
    printed = capsys.readouterr().out
    assert "2 checks, 1 off" in printed
    assert "as expected" in printed
    assert "exactly" in printed


def _reversed(x: NDArray[np.float32], **settings: Any) -> Readout:
    found = ridge(x, **settings)
    return Readout(found.mean, -found.weights)


def _untrained(x: NDArray[np.float32], **settings: Any) -> Readout:
    found = ridge(x, **settings)
    return Readout(found.mean, np.ones_like(found.weights))


def _of_means(x: NDArray[np.float32], **settings: Any) -> Readout:
    """Blind to how features vary together."""
    found = ridge(x, **settings)
    return Readout(found.mean, (x[1::2] - x[0::2]).mean(axis=0))


class _Multiplied(Readout):
    """Values that depend on where a row stands, by rounding."""

    def values(self, x: Any) -> NDArray[np.float32]:
        found = super().values(x)
        return (found * (1 + 1e-6 * np.arange(len(found)))).astype(np.float32)


def _rounding(x: NDArray[np.float32], **settings: Any) -> Readout:
    found = ridge(x, **settings)
    return _Multiplied(found.mean, found.weights + np.float32(1e-3))


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_reversed, "mirror images"),
        (_untrained, "closed forms"),
        (_of_means, "closed forms"),
        (_rounding, "certified wholes"),
    ],
)
def test_a_broken_read_out_fails(broken: Callable[..., Readout], check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "ridge", broken)
    assert not all(row["passed"] for row in QUICK[check](0))


@pytest.mark.parametrize(("broken", "steep"), [({"WIDER": 0.3, "DROP": 0.1}, False), ({"DROP": 0.01}, True)])
def test_a_broken_interval_fails(broken: dict[str, float], steep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in broken.items():
        monkeypatch.setattr(f"probekit.exams.psychometric.{name}", value)
    rows = [row for row in QUICK["simulated observers"](0) if "coverage" in row["name"]]
    assert not all(row["passed"] for row in rows if ("steep" in row["name"]) == steep)


def test_closed_forms_of_block_means_are_those_of_simulated_noise() -> None:
    """d' by sampling: the noise of blocks projected on the difference, with the mirror image added and without."""
    rng = np.random.default_rng(0)
    noise = oracles.NOISE * rng.standard_normal((4000, 48, 48))
    for flipped, encode in ((False, oracles.block_means), (True, oracles.both_ways)):
        zero, one = encode(oracles.rings("landolt", 1.8), 4)
        along = one - zero
        spread = (encode(noise, 4) @ along).std()
        expected = norm.cdf(along @ along / spread / np.sqrt(2))
        assert oracles.seen("landolt", 1.8, 4, flipped=flipped) == pytest.approx(expected, abs=0.01)
    assert oracles.seen("landolt-mirror", 3.0, 4, flipped=True) == pytest.approx(0.5, abs=0.002)
    assert oracles.seen("landolt-mirror", 3.0, 4, flipped=False) > 0.99


def test_windows_see_what_lies_within_9_px_and_no_farther() -> None:
    image = np.zeros((6, 40, 40), np.uint8)
    for k, (x, y) in enumerate(((12, 12), (20, 25))):
        image[k, y, x] = image[k, y, x + 3] = 255
    for k, apart in enumerate((9, 11), 2):
        image[k, 12, 12] = image[k, 12, 12 + apart] = 255
    image[4, 12, 12] = image[4, 12, 20] = image[5, 12, 12] = image[5, 20, 12] = 255
    found = oracles.windows(image)
    assert found.shape == (6, 64)
    np.testing.assert_array_equal(found[0], found[1], "places are not seen")
    np.testing.assert_array_equal(found[2], found[3], "nor what is 9 px away")
    assert (found[4] != found[2]).any()
    assert (found[4] != found[5]).any()


def test_a_hash_is_of_every_pixel() -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    images[1, 7, 7] = 1
    found = oracles.hashed(images)
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).mean() > 0.8
