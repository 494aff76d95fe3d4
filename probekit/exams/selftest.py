"""The exam examined: observers of whom theory says what they read, and what was found (docs/exam.md)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import ndtr, ndtri

from generators.certify import equal_multisets
from probekit.exams import oracles
from probekit.exams.draw import Frame, drawer, flat, pairs
from probekit.exams.items import ITEMS, LOCAL, Item
from probekit.exams.observers import SIDES, bag, ideal
from probekit.exams.psychometric import Grid, areas, orders, threshold
from probekit.exams.readout import ridge
from probekit.output.document import Cell, Table, number, text
from probekit.output.terminal import show_table

Row = dict[str, Any]
Floats = NDArray[np.floating]

CLEAN = Frame(oracles.SIZE, 0.0)
WHOLES = [name for name, item in ITEMS.items() if item.kind != LOCAL]
LOCALS = [name for name, item in ITEMS.items() if item.kind == LOCAL]
GAPS = {  # px, about the threshold of block means of that many px a side
    2: (1.0, 1.2, 1.4, 1.7, 2.0, 2.4),
    4: (1.2, 1.5, 1.8, 2.2, 2.6, 3.2),
    8: (1.5, 2.0, 2.5, 3.0, 3.6, 4.4),
}
LEVELS = 2.0 ** np.linspace(0, 3, 7)  # px, of simulated observers
SPREAD, STEEP = 0.5, 0.1  # octaves, of their psychometric functions
SHARED = 0.5  # of their variance, alike within a pair
CHANCE = 0.5
SIGMAS = 3.5  # standard errors that an area at chance may be off


def run_selftest(seed: int, console: Console) -> list[Row]:
    """All checks: rows {name, expected, found, tolerance, passed}, passed within the tolerance; prints them as a table.

    The seed is of noise, nuisances and simulated answers; the tolerances hold for nearly all.
    """
    rows = []
    for about, check in CHECKS.items():
        with console.status(about):
            rows += check(seed)
    show_table(selftest_table(rows), console)
    failed = sum(not row["passed"] for row in rows)
    console.print(f"{len(rows)} checks, {failed} off" if failed else f"{len(rows)} checks, all as expected")
    return rows


def selftest_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table."""
    return Table(
        key="selftest",
        title="Observers whose answers are known",
        how="Expected: in closed form, or by construction.",
        columns=("observer", "measured", "expected", "found", "tolerance", ""),
        rows=[
            (
                *map(text, row["name"].split(": ")),
                *(number(row[name]) for name in ("expected", "found")),
                number(row["tolerance"]) if row["tolerance"] else Cell("exactly", 0.0),
                Cell("as expected", 1.0) if row["passed"] else Cell("off", 0.0),
            )
            for row in rows
        ],
        names=2,
    )


def block_averages(seed: int, *, train: int = 2400, test: int = 800) -> list[Row]:
    """Thresholds in px of block means, which closed forms know, without and with those of the mirror image."""
    rows = []
    for side, flipped in ((2, False), (4, False), (8, False), (4, True)):
        values = _answers("landolt", side, GAPS[side], flipped=flipped, train=train, test=test, seed=seed)
        found = threshold(GAPS[side], values[None], seed=seed).value
        expected = oracles.threshold_of("landolt", side, GAPS[side], flipped=flipped)
        rows.append(_row(f"{_means(side, flipped)}, right or up: threshold, px", expected, found, 0.1 * expected))
    return rows


def mirror_images(seed: int, *, train: int = 2400, test: int = 800) -> list[Row]:
    """Block means tell right from left; added to those of the mirror image they cannot."""
    item, side, gap = "landolt-mirror", 4, GAPS[4][-1]
    rows = []
    for flipped, tolerance in ((False, 0.01), (True, _error(test))):
        values = _answers(item, side, [gap], flipped=flipped, train=train, test=test, seed=seed)
        expected = CHANCE if flipped else oracles.seen(item, gap, side, flipped=False)
        rows.append(_row(f"{_means(side, flipped)}, right or left: area", expected, _area(values[0]), tolerance))
    noise = np.random.default_rng(seed).integers(256, size=(2 * train, 48, 48)).astype(np.float32)
    twins = oracles.both_ways(np.stack([noise, noise[:, :, ::-1]], axis=1).reshape(-1, 48, 48), side)
    found = ridge(twins[: 2 * train]).values(twins[2 * train :])
    return [*rows, _row(f"{_means(side, True)}, noise or its mirror image: area", CHANCE, _area(found), 0.0)]


def closed_forms(seed: int, *, blocks: int = 24) -> list[Row]:
    """A class 1 apart in noise of sd .3, beside nuisances of sd 2 that both of a pair share.

    The best area is Phi(d' / sqrt 2) with d'^2 = c S^-1 c (Fisher), c the class and S the covariance. Other features
    are noise, and all are mixed; for orders there are none: a little of their noise is much beside a pair's own.
    """
    rng, n = np.random.default_rng(seed), 1000

    def draw(m: int, nuisance: Floats, turn: Floats) -> Floats:
        x = 0.3 * rng.standard_normal((m, 2, len(turn))) + rng.standard_normal((m, 1, 1)) * nuisance
        x[:, 1, 0] += 1.0
        return (x @ turn).reshape(2 * m, len(turn)).astype(np.float32)

    rows = []
    for name, nuisance, measure in (
        ("class and noise: area", np.zeros(8), areas),
        ("class, shared nuisance and noise: area", 2.0 * (np.arange(8) < 1), areas),
        ("the same, the nuisance in another feature, too: area", 2.0 * (np.arange(8) < 2), areas),
        ("class, shared nuisance and noise: pairs in order", np.full(1, 2.0), orders),
    ):
        turn = np.linalg.qr(rng.standard_normal((len(nuisance), len(nuisance))))[0]
        read = ridge(draw(4 * n, nuisance, turn))
        found = [measure(read.values(draw(n, nuisance, turn))[None, None]) for _ in range(blocks)]
        told = np.outer(nuisance, nuisance) * (measure is areas) + 0.09 * np.eye(len(nuisance))
        expected = ndtr(np.sqrt(np.linalg.inv(told)[0, 0] / 2))
        rows.append(_row(name, expected, float(np.mean(found)), 0.01))
    return rows


def blind(seed: int, *, n: int = 2000) -> list[Row]:
    """Encoders that see nothing: one gives constants, the other a hash of the image."""
    made = drawer(ITEMS["landolt"], -1, Frame(64, 0.08))
    images = flat(pairs(ITEMS["landolt"], made, 0, seed=seed, split="selftest", n=2 * n))
    rows = []
    for name, features, tolerance in (
        ("constant", np.full((4 * n, 32), 0.1, np.float32), 0.0),
        ("hash of the image", oracles.hashed(images), _error(n)),
    ):
        found = ridge(features[: 2 * n]).values(features[2 * n :])
        rows.append(_row(f"{name}, right or up: area", CHANCE, _area(found), tolerance))
    return rows


def wholes(seed: int, *, n: int = 144) -> list[Row]:
    """Items that no patch answers: both classes hold the same patches, bags are at chance, ideal readers are right."""
    equal: dict[int, list[float]] = {side: [] for side in SIDES}
    found: dict[str, list[float]] = {name: [] for name in BAGS}
    right = []
    for item in map(ITEMS.__getitem__, WHOLES):
        images = _clean(item, n, seed)
        for side in SIDES:
            equal[side].append(equal_multisets(images[0::2], images[1::2], side).mean())
        for name, encode in BAGS.items():
            found[name].append(_read(encode(images), n // 2))
        right.append(_ideal(item, images))
    total = f"{n * len(WHOLES)} pairs of {len(WHOLES)} wholes"
    return [
        *(
            _row(f"{total}: share with the same patches of {r} px", 1.0, np.mean(share), 0.0)
            for r, share in equal.items()
        ),
        *(
            _row(f"{name}, {len(WHOLES)} wholes: area, the farthest", CHANCE, _far(each), 0.0)
            for name, each in found.items()
        ),
        _row(f"ideal readers, {len(WHOLES)} wholes: share right", 1.0, np.mean(right), 0.0),
    ]


def details(seed: int, *, train: int = 160, test: int = 90) -> list[Row]:
    """Items that a patch answers, at their easiest level: windows of 9 px are enough."""
    found, right = [], []
    for item in map(ITEMS.__getitem__, LOCALS):
        images = _clean(item, train + test, seed)
        found.append(_read(oracles.windows(images), train))
        right.append(_ideal(item, images))
    return [
        _row(f"{WINDOWS}, {len(LOCALS)} details: area, the least", 1.0, min(found), 0.02),
        _row(f"ideal readers, {len(LOCALS)} details: share right", 1.0, np.mean(right), 0.0),
    ]


def simulated(seed: int, *, observers: int = 100, many: int = 1000) -> list[Row]:
    """Observers with known thresholds: the bias of many, and how often the intervals of some hold the truth.

    Curves of usual steepness, and such as rise between two levels.
    """
    rows = []
    for n in (40, 160):
        rng = np.random.default_rng([seed, n])
        px = 2 ** rng.uniform(0.8, 2.2, many)
        shares = np.array([areas(simulate(each, n, rng))[0] for each in px])
        bias = np.log(Grid(LEVELS).fit(shares, n).threshold() / px).mean()
        rows.append(_row(f"simulated observers, {n} pairs: bias of the threshold", 0.0, bias, 0.02))
        for spread, told, tolerance in ((SPREAD, "", 0.05), (STEEP, " of steep curves", 0.06)):  # .06: all may be held
            found = (threshold(LEVELS, simulate(each, n, rng, spread), seed=seed).ci for each in px[:observers])
            held = [low <= each <= high for each, (low, high) in zip(px, found, strict=False)]
            about = f"simulated observers, {n} pairs: coverage of the interval{told}"
            rows.append(_row(about, 0.95, np.mean(held), tolerance))
    return rows


def simulate(px: float, n: int, rng: np.random.Generator, spread: float = SPREAD) -> Floats:
    """Answers `[1, L, 2n]` at `LEVELS` of an observer whose area is .75 at `px`; `spread` in octaves."""
    share = CHANCE + CHANCE * ndtr(np.log2(LEVELS / px) / spread)
    apart = np.sqrt(2) * ndtri(np.minimum(share, 1 - 1e-6))
    own = np.sqrt(1 - SHARED) * rng.standard_normal((len(LEVELS), n, 2))
    values = own + np.sqrt(SHARED) * rng.standard_normal((len(LEVELS), n, 1))
    values[:, :, 1] += apart[:, None]
    rows: Floats = values.reshape(1, len(LEVELS), 2 * n)
    return rows


WINDOWS = "windows of 9 px"
BAGS: dict[str, Callable[[NDArray[np.uint8]], Floats]] = {"patch bag": bag, WINDOWS: oracles.windows}
CHECKS: dict[str, Callable[[int], list[Row]]] = {
    "block averages": block_averages,
    "mirror images": mirror_images,
    "closed forms": closed_forms,
    "encoders that see nothing": blind,
    "certified wholes": wholes,
    "details": details,
    "simulated observers": simulated,
}


def _row(name: str, expected: float, found: SupportsFloat, tolerance: float) -> Row:
    """`name` is the observer, and what was measured."""
    passed = abs(float(found) - expected) <= tolerance
    told = {"name": name, "expected": float(expected), "found": float(found), "tolerance": float(tolerance)}
    return told | {"passed": bool(passed)}


def _means(side: int, flipped: bool) -> str:
    return f"block means of {side} px{' and of the mirror image' * flipped}"


def _error(n: int) -> float:
    """What an area of n pairs may be off at chance (Hanley & McNeil 1982)."""
    return SIGMAS * float(np.sqrt((2 * n + 1) / 12)) / n


def _area(values: Floats) -> float:
    return float(areas(values[None, None])[0, 0])


def _far(found: Sequence[float]) -> float:
    """That which is farthest from chance."""
    return max(found, key=lambda area: abs(area - CHANCE))


def _answers(item: str, side: int, gaps: Sequence[float], *, flipped: bool, train: int, test: int, seed: int) -> Floats:
    """Answers `[L, 2n]` to rings in noise, read from block means that were trained at the same level."""
    rng = np.random.default_rng([seed, side, flipped])
    encode = oracles.both_ways if flipped else oracles.block_means

    def draw(rings: Floats, n: int) -> Floats:
        images = oracles.NOISE * rng.standard_normal((n, *rings.shape), np.float32) + rings
        return encode(images.reshape(-1, *rings.shape[1:]), side)

    found = [ridge(draw(rings, train)).values(draw(rings, test)) for rings in (oracles.rings(item, px) for px in gaps)]
    return np.stack(found)


def _clean(item: Item, n: int, seed: int) -> NDArray[np.uint8]:
    """Drawings `[2n, H, W]` at the easiest level, without noise."""
    level = len(item.levels) - 1
    return flat(pairs(item, drawer(item, level, CLEAN, clean=True), level, seed=seed, split="selftest", n=n))


def _read(features: Floats, train: int) -> float:
    """The area on the pairs after the first."""
    return _area(ridge(features[: 2 * train]).values(features[2 * train :]))


def _ideal(item: Item, images: NDArray[np.uint8]) -> float:
    """The share of drawings that the ideal reader has right."""
    made = drawer(item, len(item.levels) - 1, CLEAN, clean=True)
    answers = ideal(item, made, images.reshape(-1, 2, *images.shape[1:]))
    return float((answers == np.tile([-1.0, 1.0], len(images) // 2)).mean())
