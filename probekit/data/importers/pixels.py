"""From the numbers in image files to 0 to 255: by what the whole set holds, or as it was typed. Never by guess."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Broken, Item, Options

Rule = Mapping[str, tuple[float, float]]  # by NumPy's name of the type: the values that become 0 and 255
AS_IT_IS: Rule = {"uint8": (0, 255)}
DARK = 32  # own choice: 8-bit images that are nowhere brighter use 5 of their 8 bits at most
FULL = {"uint8": (DARK, 255), "uint16": (32768, 65535), "float": (0.5, 1)}  # the largest value that a set must have
MOST = 1e30  # own choice: differences of such numbers are still finite
BATCH = 256  # images looked at between two reports


class NeedsRange(Exception):  # noqa: N818 - not an error: the set is looked at, and the pass starts again
    """An image came whose type the rule does not know."""


@dataclass(frozen=True)
class Extent:
    """The least and largest value of images of one type; `key` is of the image that has the largest."""

    low: float
    high: float
    key: str


def to_8_bits(image: NDArray[Any], rule: Rule) -> NDArray[np.uint8]:
    """An image as the rule has it, rounded; values beyond its range become black or white.

    A NeedsRange if the rule has nothing for its type.
    """
    kind = image.dtype.name
    if kind not in rule:
        raise NeedsRange
    if kind == "uint8" and rule[kind] == AS_IT_IS["uint8"]:
        return image
    black, white = rule[kind]
    return ((image.astype(np.float64) - black) * 255 / (white - black)).clip(0, 255).round().astype(np.uint8)


def look(items: Iterable[Item], threads: int, *, whole: bool, progress: Callable[[int], None]) -> dict[str, Extent]:
    """What each type of image holds; broken images hold nothing.

    `threads`: that decode. `whole`: look at every image; else stop at the first with 8 bits that is not dark, for it
    tells enough. `progress`: called with the images seen.
    """
    seen: dict[str, Extent] = {}
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        for done, found in enumerate(_extents(pool, rest, 1 if not whole else BATCH), 1):
            if whole:
                progress(done)
            if found is None:
                continue
            kind, extent = found
            seen[kind] = _joined(seen.get(kind, extent), extent)
            if kind == "uint8" and extent.high >= DARK and not whole:
                break
            whole = whole or kind != "uint8"
    return seen


def _extents(pool: ThreadPoolExecutor, items: Iterator[Item], batch: int) -> Iterator[tuple[str, Extent] | None]:
    while part := list(islice(items, batch)):
        yield from pool.map(_extent, part)
        batch = BATCH


def _extent(item: Item) -> tuple[str, Extent] | None:
    with suppress(Broken):
        image = item.decode()
        return image.dtype.name, Extent(float(image.min()), float(image.max()), item.key)
    return None


def _joined(one: Extent, other: Extent) -> Extent:
    return Extent(min(one.low, other.low), max(one.high, other.high), one.key if one.high >= other.high else other.key)


def rule_of(seen: Mapping[str, Extent], options: Options) -> Rule:
    """The rule for a set: as typed, or the whole range of each type if the set makes use of it.

    What is typed is meant for the images that are not of 8 bits, or for all if there are no others. A ValueError if the
    set leaves open what is black and white, or is not as was typed.
    """
    deep = [kind for kind in seen if kind != "uint8"] or list(seen)
    typed = {kind: _typed(kind, seen[kind], options) or _full(kind, seen[kind]) for kind in deep}
    return {**AS_IT_IS, **typed}


def notes_of(seen: Mapping[str, Extent], rule: Rule) -> list[str]:
    """What was found, and what becomes of it, for every type of image that is changed."""
    return [
        f"{kind} pixels from {seen[kind].low:g} to {seen[kind].high:g}: {black:g} and less becomes black, "
        f"{white:g} and more white"
        for kind, (black, white) in rule.items()
        if kind in seen and rule[kind] != AS_IT_IS.get(kind)
    ]


def _typed(kind: str, extent: Extent, options: Options) -> tuple[float, float] | None:
    if options.range is not None:
        return options.range
    if options.bits is None:
        return None
    if np.dtype(kind).kind == "f":
        raise ValueError(f"expected whole numbers with --bits, found {kind} in {extent.key!r}; {_hint(extent)}")
    if kind == "uint8" and options.bits > 8:
        raise ValueError(f"expected images of more than 8 bits with --bits {options.bits}, found none; leave it out")
    white = 2**options.bits - 1
    if extent.low < 0 or extent.high > white:
        wrong = extent.low if extent.low < 0 else extent.high
        hint = (
            _hint(extent) if extent.low < 0 or extent.high > 65535 else f"type --bits {int(extent.high).bit_length()}"
        )
        raise ValueError(
            f"expected pixels from 0 to {white}, found {wrong:g} (the largest is in {extent.key!r}); {hint}"
        )
    return 0, white


def _full(kind: str, extent: Extent) -> tuple[float, float]:
    """The whole range of a type, if the set makes use of it: the upper half, or more than the darkest eighth of 8 bits.

    A ValueError if it does not, or the type does not say what is white.
    """
    full = FULL.get("float" if np.dtype(kind).kind == "f" else kind)
    if full is not None and extent.low >= 0 and full[0] <= extent.high <= full[1]:
        return 0, full[1]
    found = f"found {extent.low:g} to {extent.high:g} in all images ({kind}; the largest in {extent.key!r})"
    if kind not in ("uint8", "uint16"):
        wanted = (
            "floats from 0 to 1, and above 0.5 somewhere" if full is not None else "8 bits, 16 bits or floats a pixel"
        )
        raise ValueError(f"expected {wanted}, {found}; {_hint(extent)}")
    bits = max(1, int(extent.high).bit_length())
    whole = np.dtype(kind).itemsize * 8
    raise ValueError(
        f"expected images that use their {whole} bits, {found}; "
        f"type --bits {bits} if {2**bits - 1} is white, or --bits {whole} to take them as they are"
    )


def _hint(extent: Extent) -> str:
    """What to type of a range: that of 8 bits if it may be that, else what was found."""
    if extent.low >= 0 and 1 < extent.high <= 255:
        return "type --range 0,255"
    low, high = extent.low, extent.high if extent.high > extent.low else extent.low + 1
    return f"type --range {low:.9g},{high:.9g} with the values of black and white"


def parse_range(text: str) -> tuple[float, float]:
    """The numbers of "0,255"; a ValueError if they are not two numbers, the second larger."""
    try:
        black, white = map(float, text.split(","))
    except ValueError:
        black = white = float("nan")
    if not -MOST < black < white < MOST:
        raise ValueError(
            f"expected two numbers with --range, those of black and white, found {text!r}; type --range 0,255"
        )
    return black, white
