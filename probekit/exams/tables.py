"""The tables of an exam's result, and what stands out in it, as sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.exams.items import blind
from probekit.measurement import ENCODER, Result, Row, encoder_row, encoders_first
from probekit.output.document import Cell, Table, percents

EMBEDDING = ("embedding", "own")
CHART = (
    "Thresholds with 95 % intervals, an arrow where they lie beyond the levels; psychometric curves; what each layer "
    "reads at the easiest level, by its best pooling; what is followed where whole and parts disagree."
)
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

Read = Mapping[str, Any]


def own(outputs: Sequence[Read]) -> Read | None:
    """What the embedding gave among outputs, or the last of them where it was not read; None of none."""
    found = [read for read in outputs if output(read) == EMBEDDING]
    return found[0] if found else outputs[-1] if outputs else None


def output(read: Read) -> tuple[str, str]:
    """The layer, and its pooling."""
    return read["layer"], read["pool"]


def head(row: Row, item: str) -> Read | None:
    """What the embedding reads of an item; of who has no layers, what he reads."""
    return own(row["items"].get(item, ()))


def called(row: Row) -> str:
    """What `own` is of an observer that has layers: "embedding", or the output that stands in its place."""
    found = own(next((outputs for outputs in (*row["items"].values(), row["conflict"]) if outputs), ()))
    return EMBEDDING[0] if found is None or output(found) == EMBEDDING else " ".join(output(found))


def best(row: Row, item: str) -> Read:
    """The output that reads an item best, the mean over its levels."""
    return max(row["items"][item], key=lambda read: sum(read["areas"]))


def easiest(row: Row, item: str, layer: str) -> Read:
    """The output of a layer that reads an item best at the easiest level."""
    reads = (read for read in row["items"][item] if read["layer"] == layer)
    return max(reads, key=lambda read: float(read["easy"]["readable"]["value"]))


def px_text(found: Mapping[str, Any], digits: int = 1) -> str:
    """As in "2.8", "> 8.0", "< 1.0"."""
    return f"{found['beyond']} {found['value']:.{digits}f}".strip()


def px_ends(found: Mapping[str, Any], digits: int = 1) -> str:
    """As in "[2.5, 3.2]", where an end beyond the levels has a mark; "" of a threshold that is beyond them itself."""
    if found["beyond"]:
        return ""
    marked = [f"{mark}{end:.{digits}f}" for mark, end in zip(found["ci_beyond"], found["ci"], strict=True)]
    return f"[{', '.join(marked)}]"


def tables(result: Result) -> list[Table]:
    """Thresholds, wholes, layers, conflict and invariance, those that were asked for."""
    rows = encoders_first(result["rows"])
    local = [name for name, item in result["items"].items() if item["px"]]
    wholes = [name for name in result["items"] if name not in local]
    found = [_thresholds(rows, local)] if local else []
    found += [_wholes(rows, wholes, result["size"])] if wholes else []
    if result["items"] and "layers" in result["options"]["parts"]:
        found += [_layers(row, list(result["items"]), n) for n, row in enumerate(rows) if row["strides"]]
    if any(row["conflict"] for row in rows):
        found.append(_conflict(rows, result["radii"]))
    if any(row["invariance"] for row in rows):
        found.append(_invariance(rows))
    return found


def _lines(rows: Sequence[Row], items: Sequence[str], cell: Any) -> tuple[list[list[Cell]], frozenset[int]]:
    """A line for each observer, of who has layers one for the embedding and one for the best of all outputs."""
    lines: list[list[Cell]] = []
    strong = []
    for row in rows:
        reads = [head(row, item) for item in items]
        if row["kind"] == ENCODER:
            strong.append(len(lines))
        name = f"{row['name']}, {called(row)}" if row["strides"] else row["name"]
        lines.append([Cell(name, name), *(Cell("-", None) if read is None else cell(read, False) for read in reads)])
        if len(row["strides"]) > 1:
            name = f"{row['name']}, best layer"
            lines.append([Cell(name, name), *(cell(best(row, item), True) for item in items)])
    return lines, frozenset(strong)


def _thresholds(rows: Sequence[Row], items: Sequence[str]) -> Table:
    def cell(read: Read, named: bool) -> Cell:
        found = read["threshold"]["readable"]
        where = f" {read['layer']} {read['pool']}" if named else ""
        return Cell(px_text(found), found["value"], f"{px_ends(found)}{where}".strip())

    lines, strong = _lines(rows, items, cell)
    how = (
        "The smallest difference that is read in 75 % of choices between two unlike scenes, in px of the images, with "
        "95 % intervals; > or < where it lies beyond the levels. The best layer is the best of many, and so a little "
        "too good. The known template knows both drawings: nobody can do better at this noise."
    )
    return Table("thresholds", "Acuity", how, ("observer", *(f"{item}, px" for item in items)), lines, strong)


def _wholes(rows: Sequence[Row], items: Sequence[str], size: int) -> Table:
    def cell(read: Read, named: bool) -> Cell:
        found = read["easy"]["readable"]
        shown = percents(found["value"], found["ci"])
        more = " still rising" if read["rising"] else ""
        where = f" {read['layer']} {read['pool']}" if named else ""
        return Cell(shown.number, shown.value, f"{shown.ends}{where}{more}".strip())

    lines, strong = _lines(rows, items, cell)
    how = (
        f"Right choices between two unlike scenes, in %, chance 50. No bag of patches of {blind(size)} px can tell "
        "the two. Still rising: half of the training pairs read less by more than 5 points: more pairs may read more."
    )
    return Table("wholes", "Wholes", how, ("observer", *items), lines, strong)


def _layers(row: Row, items: Sequence[str], number: int) -> Table:
    lines = []
    for layer, stride in row["strides"].items():
        cells = [Cell(layer, layer), Cell("-" if stride is None else str(stride), stride)]
        for item in items:
            top = easiest(row, item, layer)
            found = top["easy"]["readable"]
            shown = percents(found["value"], found["ci"])
            cells.append(Cell(f"{shown.number} {top['pool']}", shown.value))
        lines.append(cells)
    how = (
        "Right choices at the easiest level, in %, by the pooling that reads most; chance 50. A layer that reads less "
        "than one before it has lost something, or keeps it where no linear read-out finds it."
    )
    columns = ("layer", "stride, px", *items)
    title = f"Layers of {row['name']}"
    return Table(f"layers-{number}", title, how, columns, lines, folded=row["kind"] != ENCODER, names=1)


def _conflict(rows: Sequence[Row], radii: Sequence[float]) -> Table:
    lines = []
    for row in rows:
        told = own(row["conflict"])
        if told is not None:
            cells = [Cell(row["name"], row["name"])]
            for k in range(len(radii)):
                cells += [percents(told["whole"][k], None), percents(told["element"][k], None)]
                read = min(told["whole"][k], told["element"][k]) >= READ
                cells.append(percents(told["follows"][k] if read else None, told["ci"][k]))
            lines.append(cells)
    how = (
        "A read-out that was trained where both agree, a circle of discs and a square of squares, is asked about "
        "circles of squares and squares of discs: the share of answers for the whole, in %. A dash where one of "
        "the cues alone is not read in 75 % (a report has both beside it): what is not read cannot be followed. px: "
        "the radius of the elements."
    )
    alone = [f"{what} alone, {radius:g} px" for radius in radii for what in ("whole", "parts")]
    columns = [
        name for k, radius in enumerate(radii) for name in (*alone[2 * k : 2 * k + 2], f"follows, {radius:g} px")
    ]
    return Table("conflict", "Whole against parts", how, ("observer", *columns), lines, details=frozenset(alone))


def _invariance(rows: Sequence[Row]) -> Table:
    lines, changes = [], list(next(row["invariance"] for row in rows if row["invariance"]))
    for row in rows:
        found = [own(row["invariance"].get(change, ())) for change in changes]
        if any(told is not None for told in found):
            lines.append([Cell(row["name"], row["name"]), *map(_kept, found)])
    how = (
        "A read-out of the ring's gap that was trained on plain images is asked about changed ones of the largest gap: "
        "how much it keeps of what it read above chance, in %. A dash where it reads less than 75 % of the plain ones."
    )
    return Table("invariance", "Invariance", how, ("observer", *changes), lines)


def _kept(told: Read | None) -> Cell:
    if told is None or told["kept"] is None:
        return Cell("-", None)
    return Cell(f"{100 * told['kept']:.0f}", told["kept"])


# --- Sentences.


def sentences(result: Result) -> list[str]:
    """What the encoder reads, sees, loses and follows; never one number for all."""
    row = encoder_row(result)
    found = [_acuity(row), _mirror(row), _compared(row, result), _seen(row), *_lost(row), _followed(row, result)]
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


def _end(found: Mapping[str, Any], side: int) -> float:
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


READ = 0.75  # what an item must reach before it is said to be lost, a cue alone before it is said what is followed
