"""The certificate of a generator: what is proved of its pairs, what linear probes read, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from generators import Generator
from generators.certificates import (
    LOCAL,
    NEITHER,
    SCHEMA,
    WHOLE,
    Certificate,
    Estimate,
    FactorCertificate,
    Lines,
    Reader,
    Reading,
    Verdict,
    told,
)
from generators.certify import counterfactual_pairs, equal_multisets, misread, values_of
from probekit.certificate.readout import PIXELS, SCALARS, Floats, bag_of, measured, paired, unpaired
from probekit.output.document import Block, Cell, Note, Table, scored, text

SPLIT = "certificate"  # its samples are in no dataset file
MOST_N = 20_000  # ours: some 5 GB of numbers
SIDES = (3, 5, 9)  # ours: patches that the product's bag takes
DEFAULT_N = 1000  # pairs: the interval of a share at chance is then .03 to either side
MIN_N = 80  # ten samples choose the strength of the penalty
TELLS = 0.75  # ours: what a bag must reach to suffice, the usual threshold of a choice between two
LEAKS = 0.6  # ours: what is named; four standard errors above chance with 500 samples
CHANCE = 0.5
WAYS: tuple[tuple[Literal["unpaired", "paired"], str], ...] = (("unpaired", ""), ("paired", " in pairs"))


def certify(
    generator: Generator,
    *,
    n: int = DEFAULT_N,
    seed: int = 0,
    sides: Sequence[int] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Certificate:
    """Tests whether local statistics tell the values of each class factor apart; docs/generators.md has the lines.

    `generator`: as `generators.certify.bare` makes it, for noise would hide what a scene shows. `n` samples, each
    paired with each of its counterfactuals. `sides` of patches in px, odd; () are those of `SIDES` that fit. The seed
    decides the samples and the bootstrap; `progress` is given the images compared and in all. A ValueError for fewer or
    more samples, or other sides, than can be.
    """
    if n < MIN_N:
        raise ValueError(f"expected at least {MIN_N} samples to certify, found {n}; type --n {DEFAULT_N}")
    if n > MOST_N:
        raise ValueError(f"expected at most {MOST_N} samples to certify, found {n}; type --n {MOST_N}")
    sides = fitting(sides, generator.size)
    factors = generator.sample(seed, SPLIT, np.arange(n))
    whole = measured(generator.render_images(factors), sides)
    total, done = n * sum(values_of(generator, name) - 1 for name in generator.class_factors), 0
    found: dict[str, FactorCertificate] = {}
    for name in generator.class_factors:

        def advance(images: int, before: int = done) -> None:
            progress(before + images, total)

        with threadpool_limits(1):  # the last digits hang on how a product is divided among threads
            lines = _factor(generator, factors, name, whole, sides=sides, seed=seed, advance=advance)
        found[name] = {**verdict(lines), **lines}
        done += lines["pairs"]
    return {
        "schema": SCHEMA,
        "generator": generator.name,
        "size": generator.size,
        "parameters": generator.values,
        "n": n,
        "seed": seed,
        "r": list(sides),
        "factors": found,
    }


def fitting(sides: Sequence[int], size: int) -> tuple[int, ...]:
    """Sides of patches for frames of `size` px, the usual ones if none are typed; others are refused."""
    usual = tuple(side for side in SIDES if side <= size)
    if not usual:
        raise ValueError(f"expected images of at least {SIDES[0]} px a side, found {size}; import them with --size 128")
    found = tuple(sides) or usual
    if any(side < 3 or side % 2 == 0 or side > size for side in found) or sorted(set(found)) != [*found]:
        typed, known = (",".join(map(str, each)) for each in (found, usual))
        raise ValueError(
            f"expected odd sides of patches from 3 to {size} px that ascend, found {typed}; type --r {known}"
        )
    return found


def _factor(
    generator: Generator,
    factors: NDArray[np.void],
    name: str,
    whole: Mapping[str, Floats],
    *,
    sides: Sequence[int],
    seed: int,
    advance: Callable[[int], None],
) -> Lines:
    """All lines of a class factor; `whole` has the numbers of the samples."""
    base, ones, others, wrong = [], [], [], []
    equal = dict.fromkeys(sides, 0)
    more: dict[str, list[Floats]] = {line: [] for line in whole}
    for pairs in counterfactual_pairs(generator, factors, name):
        base.append(pairs.base)
        ones.append(pairs.values)
        others.append(np.full_like(pairs.base, pairs.value))
        wrong.append(misread(generator, pairs, name))
        for side in sides:
            equal[side] += int(equal_multisets(pairs.images, pairs.others, side).sum())
        for line, found in measured(pairs.others, sides).items():
            more[line].append(whole[line][pairs.base] - found)
        advance(sum(map(len, base)))
    order = np.argsort(np.concatenate(base), kind="stable")
    numbers, these, those = (np.concatenate(parts)[order] for parts in (base, ones, others))
    labels, values = factors[name].astype(np.int64), values_of(generator, name)
    read: dict[str, Reading] = {}
    for line, x in whole.items():
        differences = np.concatenate(more.pop(line))[order]
        read[line] = {
            "unpaired": _rounded(unpaired(x, labels, values, seed=seed)),
            "paired": _rounded(paired(differences, numbers, these, those, values, seed=seed)),
        }
    return {
        "values": list(next(factor.values for factor in generator.factors if factor.name == name)),
        "pairs": len(numbers),
        "equal": {str(side): count for side, count in equal.items()},
        "reader": _reader(wrong, 2 * len(numbers)),
        "read": read,
    }


def _reader(wrong: Sequence[NDArray[np.bool_] | None], images: int) -> Reader | None:
    known = [part for part in wrong if part is not None]
    return {"right": images - sum(int(part.sum()) for part in known), "images": images} if known else None


def _rounded(found: Mapping[str, Any]) -> Estimate:
    """To three digits, on which machines agree."""
    ci = found["ci"]
    return {"value": round(found["mean"], 3), "ci": None if ci is None else (round(ci[0], 3), round(ci[1], 3))}


def verdict(lines: Lines) -> Verdict:
    """The verdict on a class factor.

    It is *local* where a bag of patches reaches `TELLS`, unpaired or paired; r is the least such side. Else it is
    *whole* where, up to some side, all pairs hold the same patches and no bag leaks, and the ideal reader is never
    wrong; r is the largest such side. Else it is *neither*.
    """
    sides, read = [int(side) for side in lines["equal"]], lines["read"]
    leaks = _leaks(read, [*SCALARS, PIXELS])
    for side in sides:
        if any(above(read[bag_of(side)][way], TELLS) for way, _ in WAYS):
            return {"verdict": LOCAL, "r": side, "why": [], "leaks": leaks}
    bags = {side: _leaks(read, [bag_of(side)]) for side in sides}
    same = _while(sides, lambda side: lines["equal"][str(side)] == lines["pairs"])
    proved = _while(same, lambda side: not bags[side])
    reader = lines["reader"]
    if proved and reader is not None and reader["right"] == reader["images"]:
        beyond = [leak for side in sides[len(proved) :] for leak in bags[side]]
        return {"verdict": WHOLE, "r": proved[-1], "why": [], "leaks": leaks + beyond}
    why = [leak for side in sides for leak in bags[side]]
    if not same:
        unlike = 1 - lines["equal"][str(sides[0])] / lines["pairs"]
        why.append(f"patches of {sides[0]}x{sides[0]} differ in {100 * unlike:.1f} % of pairs")
    if reader is None:
        why.append("no ideal reader")
    elif reader["right"] < reader["images"]:
        why.append(f"ideal reader wrong in {reader['images'] - reader['right']:,} of {reader['images']:,} images")
    return {"verdict": NEITHER, "r": None, "why": why, "leaks": leaks}


def above(found: Estimate, least: float) -> bool:
    """Whether an estimate is at least that much, and its interval above chance."""
    return found["value"] >= least and (found["ci"] is None or found["ci"][0] > CHANCE)


def _while(sides: Sequence[int], holds: Callable[[int], bool]) -> Sequence[int]:
    """The sides up to the first for which something does not hold."""
    return sides[: next((i for i, side in enumerate(sides) if not holds(side)), len(sides))]


def _leaks(read: Mapping[str, Reading], lines: Sequence[str]) -> list[str]:
    """Which of these lines tell the values apart, unpaired or in pairs, with numbers."""
    return [
        f"{line}{words} {_shown(read[line][way])}"
        for line in lines
        for way, words in WAYS
        if above(read[line][way], LEAKS)
    ]


def _shown(found: Estimate) -> str:
    ends = "" if found["ci"] is None else f" [{found['ci'][0]:.2f}, {found['ci'][1]:.2f}]"
    return f"{found['value']:.2f}{ends}"


def certificate_blocks(certificate: Certificate) -> list[Block]:
    """A table for each class factor, the verdict under it."""
    blocks: list[Block] = []
    for (name, factor), sentence in zip(certificate["factors"].items(), told(certificate), strict=True):
        title = f"{name}: {' or '.join(factor['values'])}"
        blocks += [Table(f"certificate-{name}", title, "", ("", "unpaired", "paired"), _rows(factor)), Note(sentence)]
    how = (
        f"{certificate['n']:,} samples of {certificate['generator']}, {certificate['size']} px, seed "
        f"{certificate['seed']}, without noise; each beside its counterfactuals. Areas under the ROC curve "
        "and shares of pairs in order, with 95 % intervals; chance is 0.50. docs/generators.md."
    )
    return [*blocks, Note(how)]


def _rows(factor: FactorCertificate) -> list[list[Cell]]:
    pairs, reader, nothing = factor["pairs"], factor["reader"], Cell("", None)
    rows = [
        [text(line), _estimate(read["unpaired"]), _estimate(read["paired"])] for line, read in factor["read"].items()
    ]
    for side, equal in factor["equal"].items():
        rows.append([text(f"same {side}x{side} patches"), nothing, text(f"{100 * equal / pairs:.1f} % of {pairs:,}")])
    said = "none" if reader is None else f"{reader['right'] / reader['images']:.3f} of {reader['images']:,}"
    return [*rows, [text("ideal reader"), text(said), nothing]]


def _estimate(found: Estimate) -> Cell:
    """A number beside its interval, not above it: a table of many lines is read down its columns."""
    return Cell(scored(found["value"], found["ci"], 2).text, found["value"])
