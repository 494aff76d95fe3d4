"""Which images go to a new split: a share of each class, by a hash of their names; groups go as a whole."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence


def pick(
    keys: Sequence[str],
    labels: Sequence[int],
    groups: Sequence[Hashable] | None,
    split: str,
    fraction: float,
    seed: int,
    classes: Sequence[str],
    *,
    needed: bool = False,
) -> list[bool]:
    """Whether each image goes, `[N]`; of every class at least one goes and one stays.

    The units (images, or groups) come in the order of a hash of seed, split and name; each goes if the counts of the
    classes then are closer to `fraction` of each (at least 1), summed over classes, than before. So of single images
    just that share of every class goes, whatever the machine, and an added image moves no other. Of a class of which
    none has gone, the group that leads least astray goes.

    `keys`: names of the images; `labels`: their classes; `groups`: what must not be divided, or None; `needed`: whether
    the split is all that was asked for, so that it cannot be left out. A ValueError if a class has too few images, or
    too few groups.
    """
    counts = Counter(labels)
    wanted = {label: max(1, round(fraction * n)) for label, n in counts.items()}
    few = [label for label, n in counts.items() if wanted[label] >= n]
    if few:
        raise _too_few(few, counts, split, classes, "images", needed)
    names = list(map(str, keys)) if groups is None else [text_of(group) for group in groups]
    units: dict[str, Counter[int]] = {}
    for name, label in zip(names, labels, strict=True):
        units.setdefault(name, Counter())[label] += 1
    rest = dict(wanted)  # still to go, below 0 where more have gone
    taken: set[str] = set()

    def nearer(name: str) -> int:
        return sum(abs(rest[label] - n) - abs(rest[label]) for label, n in units[name].items())

    def take(name: str) -> None:
        taken.add(name)
        for label, n in units[name].items():
            rest[label] -= n

    order = sorted(units, key=lambda name: hashlib.sha256(f"{seed}/{split}/{name}".encode()).digest())
    for name in order:
        if nearer(name) < 0:
            take(name)
    for label in counts:  # whose groups are all larger than what is to go
        if rest[label] == wanted[label]:
            take(min((name for name in order if label in units[name]), key=nearer))
    gone = [label for label in counts if not 0 < wanted[label] - rest[label] < counts[label]]
    if gone:
        had = Counter(label for own in units.values() for label in own)
        raise _too_few(gone, had, split, classes, "groups", needed)
    return [name in taken for name in names]


def text_of(value: object) -> str:
    """A value of a table as text; bytes that are no UTF-8 become escapes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _too_few(
    labels: Sequence[int], counts: Counter[int], split: str, classes: Sequence[str], what: str, needed: bool
) -> ValueError:
    first = min(labels, key=lambda label: (counts[label], label))
    where = f"class {classes[first]!r}" if classes else "the source"
    more = len(labels) - 1
    others = f" (and {more} more class{'es' * (more > 1)})" if more else ""
    instead = f"type --{split}-fraction 0"
    if what == "groups":
        instead = "leave --group out"
    elif needed:
        instead = "leave such classes out when it is imported"
    return ValueError(
        f"expected enough {what} in {where} for train and {split}, found {counts[first]}{others}; "
        f"add {what}, or {instead}"
    )
