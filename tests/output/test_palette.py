"""The colours of charts: contrast by WCAG 2.2, and what people with one kind of cone less tell apart (Machado 2009).

Alone: pytest tests/output/test_palette.py
"""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from probekit.heatmaps.draw import ABOVE, BELOW
from probekit.output.style import CARDS, CASING, LIGHT, OUTLINES, PALETTE, PLAIN, RIGHT, SERIES, WRONG

PAGES = CARDS
SEEN_BY = {  # linear RGB to what is seen, severity 1: Machado, Oliveira and Fernandes 2009, table 1
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def apart_as_seen(kind: str, *colours: str) -> float:
    """CIEDE2000 between two colours as they are seen with one kind of cone less."""
    seen = []
    for colour in colours:
        light = np.clip(np.array(SEEN_BY[kind]) @ linear(colour), 0, 1)
        seen.append(rgb2lab(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)))
    return float(deltaE_ciede2000(*seen))  # type: ignore[no-untyped-call]


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", [0, 1])
def test_every_mark_stands_out_of_its_page(page: int) -> None:
    found = {name: contrast(colours[page], PAGES[page]) for name, colours in PALETTE.items() if name != "grid"}
    assert min(found.values()) >= 3, found
    assert contrast(PALETTE["ink"][page], PAGES[page]) > 7


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("kind", SEEN_BY)
def test_lines_are_told_apart_without_one_kind_of_cone(kind: str, page: int) -> None:
    names = [name for name, colour in LIGHT.items() if colour in SERIES]
    apart = {(a, b): apart_as_seen(kind, PALETTE[a][page], PALETTE[b][page]) for a, b in combinations(names, 2)}
    assert min(apart.values()) > 6, apart


@pytest.mark.parametrize("kind", SEEN_BY)
def test_outlines_stand_out_of_every_image_and_are_told_apart(kind: str) -> None:
    """A bright line between dark edges has its contrast within itself, whatever lies below."""
    found = {name: contrast(colour, CASING) for name, colour in OUTLINES.items()}
    assert min(found.values()) >= 3, found
    assert contrast(PLAIN, CASING) > 7
    for a, b in combinations(OUTLINES.values(), 2):
        assert apart_as_seen(kind, a, b) > 6, (a, b)


@pytest.mark.parametrize("kind", SEEN_BY)
def test_right_and_wrong_above_and_below_are_told_apart(kind: str) -> None:
    above, below = (f"#{bytes(colour).hex()}" for colour in (ABOVE, BELOW))
    assert apart_as_seen(kind, RIGHT, WRONG) > 20
    assert apart_as_seen(kind, above, below) > 20
