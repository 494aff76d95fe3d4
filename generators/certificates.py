"""Certificates as they are kept, and what they say; `probekit.certificate` makes them, docs/generators.md defines them.

`certificates.json` has those of all generators at their default sizes and geometry. Made anew by:
probekit certify --all --json > generators/certificates.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from generators.base import Generator
from generators.parameters import PHOTOMETRY

SCHEMA = "probekit-certificate/1"
LOCAL: Final = "local"
WHOLE: Final = "whole"
NEITHER: Final = "neither"
SHIPPED = Path(__file__).with_name("certificates.json")


class Estimate(TypedDict):
    """A share or an area in [0, 1], and its 95 % interval where it has one."""

    value: float
    ci: tuple[float, float] | None


class Reading(TypedDict):
    """What a linear probe reads from one kind of numbers."""

    unpaired: Estimate
    paired: Estimate


class Reader(TypedDict):
    """Images that the ideal reader got, and those that it read right."""

    right: int
    images: int


class Lines(TypedDict):
    """What was found of a class factor.

    values: names of its values. pairs: counterfactual pairs that were compared. equal: how many of them hold the same
    patches of each side.
    """

    values: list[str]
    pairs: int
    equal: dict[str, int]
    reader: Reader | None
    read: dict[str, Reading]


class Verdict(TypedDict):
    """What follows from the lines.

    r: the side of the patches that suffice, or up to which it is certified as a whole. why: what a verdict of neither
    rests on. leaks: what else tells the values apart.
    """

    verdict: Literal["local", "whole", "neither"]
    r: int | None
    why: list[str]
    leaks: list[str]


class FactorCertificate(Verdict, Lines):
    """What is known of a class factor."""


class Certificate(TypedDict):
    """A certificate: of which generator with which settings, from how many samples of which seed, for which sides."""

    schema: str
    generator: str
    size: int
    parameters: dict[str, Any]
    n: int
    seed: int
    r: list[int]
    factors: dict[str, FactorCertificate]


def shipped(generator: Generator) -> Certificate | None:
    """The certificate that comes with a generator, if it has the settings for which that was made.

    Those of photometry do not count, but for blur, which spreads what is in one patch to the next.
    """
    found = _shipped().get(generator.name)
    light = {parameter.name for parameter in PHOTOMETRY} - {"blur_sd"}

    def geometry(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in light}

    if found is None or found["size"] != generator.size:
        return None
    return found if geometry(found["parameters"]) == geometry(generator.values) else None


@cache
def _shipped() -> dict[str, Certificate]:
    content: dict[str, Certificate] = json.loads(SHIPPED.read_text())
    return content


def told(certificate: Certificate | None, otherwise: str = "no certificate") -> list[str]:
    """What a certificate says, a sentence for each class factor; or what is said without one."""
    return (
        [otherwise] if certificate is None else [_told(name, factor) for name, factor in certificate["factors"].items()]
    )


def _told(name: str, found: FactorCertificate) -> str:
    patches = f"{found['r']}x{found['r']}"
    leaks = f"; leaks: {', '.join(found['leaks'])}" if found["leaks"] else ""
    said = {
        LOCAL: f"local, a bag of {patches} patches reads it",
        WHOLE: f"whole, certified {found['r']}: chance for any bag of {patches} patches{leaks}",
        NEITHER: f"neither read by a bag nor certified as a whole: {', '.join(found['why'])}",
    }
    return f"{name}: {said[found['verdict']]}"
