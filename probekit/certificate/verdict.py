"""The rule by which the lines of a certificate become a verdict, the same for all generators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from generators.certificates import LOCAL, NEITHER, WHOLE, Estimate, Lines, Reading, Verdict
from probekit.certificate.features import PIXELS, SCALARS, bag_of

TELLS = 0.75  # ours: what a bag must reach to suffice, the usual threshold of a choice between two
LEAKS = 0.6  # ours: what is named; four standard errors above chance with 500 samples
CHANCE = 0.5
WAYS: tuple[tuple[Literal["unpaired", "paired"], str], ...] = (("unpaired", ""), ("paired", " in pairs"))


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
        why.append(f"patches of {sides[0]}x{sides[0]} differ in {unlike:.1%} of pairs")
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
