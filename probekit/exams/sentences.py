"""What stands out in an exam's result, as sentences."""

from collections.abc import Iterator

from probekit.exams.tables import EMBEDDING, READ, Read, called, easiest, head, output, own, px_ends, px_text
from probekit.measurement import ENCODER, Result, Row, encoder_row

SMALLEST = {  # item: what its levels are of, in a sentence
    "landolt": "a gap",
    "landolt-mirror": "its mirror image",
    "vernier": "an offset",
    "corner": "a corner radius",
}
SEEN = {
    "navon": "circles from squares of elements",
    "enclosed": "inside from outside",
    "align": "three marks in line",
    "mirror": "mirror symmetry",
    "bind": "which mark is in which frame",
    "same": "same from different",
    "trace": "which of two curves",
}


def sentences(result: Result) -> list[str]:
    """What the encoder reads, sees, loses and follows; never one number for all."""
    row = encoder_row(result)
    found = [_acuity(row), _mirror(row), _compared(row, result), _seen(row), _hidden(row), *_lost(row)]
    found.append(_followed(row, result))
    lines = [line for line in found if line]
    if called(row) != EMBEDDING[0] and lines:
        lines[0] = f"The embedding was not read; of {called(row)}: {lines[0]}"
    return lines


def _acuity(row: Row) -> str:
    told = []
    for item, noun in SMALLEST.items():
        read = head(row, item)
        if read is None:
            continue
        found = read["threshold"]["readable"]
        if found["beyond"] == ">":
            more = ", still rising with more training pairs" if read["rising"] else ""
            told.append(f"{noun} not even at {found['value']:.1f} px{more}")
        elif found["beyond"] == "<":
            told.append(f"{noun} below {found['value']:.1f} px")
        else:
            told.append(f"{noun} of {px_text(found)} px {px_ends(found)}")
    return f"Reads {', '.join(told)}." if told else ""


def _mirror(row: Row) -> str:
    """How many times the gap the mirror image needs in the embedding, if clearly more, and where it is read finest."""
    plain, mirrored = (
        {output(read): read["threshold"]["readable"] for read in row["items"].get(item, ())}
        for item in ("landolt", "landolt-mirror")
    )
    pairs = {output: (plain[output], mirrored[output]) for output in plain.keys() & mirrored.keys()}
    if EMBEDDING not in pairs:
        return ""
    gap, other = pairs[EMBEDDING]
    if gap["beyond"] or other["ci"][0] <= gap["ci"][1]:
        return ""
    bound = "more than " if other["beyond"] else ""
    line = f"The mirror image needs a gap {bound}{other['value'] / gap['value']:.1f} times as wide in the embedding"
    within = {output: pair for output, pair in pairs.items() if not (pair[0]["beyond"] or pair[1]["beyond"])}
    finest = min(sorted(within), key=lambda output: within[output][1]["value"], default=EMBEDDING)
    if finest == EMBEDDING:
        return f"{line}."
    gap, other = within[finest]
    return f"{line}, {other['value'] / gap['value']:.1f} times in {' '.join(finest)}, which reads it finest."


def _compared(row: Row, result: Result) -> str:
    """Where a baseline reads a smaller difference than the embedding: a clear one, whose intervals do not meet."""
    finer: dict[str, list[str]] = {}
    for item, noun in SMALLEST.items():
        own = head(row, item)
        for other in result["rows"]:
            read = head(other, item)
            if own is None or read is None or other["kind"] == ENCODER or other["name"] not in BEATEN:
                continue
            ours, theirs = own["threshold"]["readable"], read["threshold"]["readable"]
            if theirs["ci"][1] < ours["ci"][0]:
                finer.setdefault(other["name"], []).append(f"{noun} of {px_text(theirs)} px")
    return " ".join(f"{BEATEN[name]} finer: {', '.join(told)}." for name, told in finer.items())


BEATEN = {
    "random weights": "Random weights read",
    "patch bag": "A patch bag reads",
    "raw pixels": "Raw pixels read",
}


def _seen(row: Row) -> str:
    """Which wholes are read above chance, by Holm over them; which are not, unless more pairs would help.

    What is not above chance is not seen only where its interval, too, ends below `READ`.
    """
    from probekit.statistics import LEVEL, holm  # slow to load, and every command reads this module

    items = [name for name in SEEN if head(row, name) is not None]
    reads = {name: head(row, name) for name in items}
    ps = holm([read["easy"]["p"] for read in reads.values() if read])
    groups: dict[str, list[str]] = {key: [] for key in (SEES, UNSEEN, UNDECIDED, GROWING)}
    for (name, read), p in zip(reads.items(), ps, strict=True):
        assert read is not None
        key = UNSEEN if _end(read["easy"]["readable"], 1) < READ else UNDECIDED
        key = SEES if p < LEVEL else GROWING if read["rising"] else key
        area = f" ({100 * read['easy']['readable']['value']:.0f} %)"
        groups[key].append(f"{SEEN[name]}{area}")
    return " ".join(f"{key} {', '.join(told)}." for key, told in groups.items() if told)


SEES, UNSEEN, UNDECIDED, GROWING = "Sees", "Does not see", "Undecided:", "Still rising with more training pairs:"


def _hidden(row: Row) -> str:
    """What is told apart within pairs, which share all else, and not among unlike scenes, at the easiest level.

    Clearly: the interval of the one begins at `READ` or above, that of the other ends below it.
    """
    told = []
    for item, noun in (SMALLEST | SEEN).items():
        read = head(row, item)
        if read is None:
            continue
        present, readable = read["easy"]["present"], read["easy"]["readable"]
        if _end(present, 0) >= READ > _end(readable, 1):
            shares = f"{100 * present['value']:.0f} % within pairs, {100 * readable['value']:.0f} % among unlike scenes"
            told.append(f"{noun} ({shares})")
    return f"Present, but hidden by nuisances: {', '.join(told)}." if told else ""


def _lost(row: Row) -> Iterator[str]:
    """The first layer after the best that reads an item clearly less, where the embedding has not got it back.

    Clearly: the intervals do not meet, as the best of many layers is a little too good.
    """
    layers = list(row["strides"])
    for item in row["items"]:
        values = [easiest(row, item, layer)["easy"]["readable"] for layer in layers]
        peak = max(range(len(values)), key=lambda n: values[n]["value"])
        if values[peak]["value"] < READ:
            continue
        after = [n for n in range(peak + 1, len(values)) if _end(values[n], 1) < _end(values[peak], 0)]
        end = layers.index(EMBEDDING[0]) if EMBEDDING[0] in layers else len(layers) - 1
        if end in after:
            later = [f"{layers[n]} {100 * values[n]['value']:.0f} %" for n in dict.fromkeys((after[0], end))]
            first = f"{layers[peak]} reads {100 * values[peak]['value']:.0f} %"
            yield f"{item}: {first} at the easiest level, {', '.join(later)}."


def _end(found: Read, side: int) -> float:
    """The lower or the upper end of an interval; of answers that never vary, the value."""
    return float(found["ci"][side] if found["ci"] else found["value"])


def _followed(row: Row, result: Result) -> str:
    told = own(row["conflict"])
    if told is None:
        return ""
    parts = [
        f"{100 * share:.0f} % at {radius:.1f} px"
        for share, radius, whole, element in zip(
            told["follows"], result["radii"], told["whole"], told["element"], strict=True
        )
        if min(whole, element) >= READ
    ]
    if not parts:
        cues = {"the whole": "whole", "the parts": "element"}
        unread = " and ".join(noun for noun, cue in cues.items() if max(told[cue]) < READ) or "one of the two"
        return f"Whole against parts: it does not read {unread} alone, so nothing is said of what is followed."
    return f"Where whole and parts disagree, answers follow the whole in {', '.join(parts)} (radius of the parts)."
