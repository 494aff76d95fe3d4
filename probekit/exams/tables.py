"""The tables of an exam's result, and what they are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.exams.items import blind
from probekit.measurement import ENCODER, Result, Row, encoders_first
from probekit.output.document import Cell, Table, percents

EMBEDDING = ("embedding", "own")
MIRRORED = "landolt-mirror"
READ = 0.75  # what an item must reach before it is said to be lost, a cue alone before it is said what is followed
CHART = (
    "Thresholds with 95 % intervals, an arrow where they lie beyond the levels; easy, all: the levels of the training "
    "pairs, those of the two that read held-out pairs better; psychometric curves; what each layer reads at the "
    "easiest level, by its best pooling; what is followed where whole and parts disagree."
)
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


def easiest(row: Row, item: str, layer: str, curve: str = "readable") -> Read:
    """The output of a layer that reads an item best at the easiest level, by one of the two curves."""
    reads = (read for read in row["items"][item] if read["layer"] == layer)
    return max(reads, key=lambda read: float(read["easy"][curve]["value"]))


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
    found += [_kinds(rows, result)] if local and wholes else []
    if result["items"] and "layers" in result["options"]["parts"]:
        layered, items = [(n, row) for n, row in enumerate(rows) if row["strides"]], list(result["items"])
        found += [_layers(row, items, n, curve) for curve in CURVES for n, row in layered]
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


def _kinds(rows: Sequence[Row], result: Result) -> Table:
    """How well details, configurations and relations are read, a mean over items each; never one number for all."""
    from probekit.statistics import mean_of_estimates  # slow to load, and every command reads this module

    kinds: dict[str, list[str]] = {}
    for name, item in result["items"].items():
        if name != MIRRORED:
            kinds.setdefault(item["kind"], []).append(name)

    def cell(row: Row, items: Sequence[str]) -> Cell:
        reads = [head(row, item) for item in items]
        found = [read["all"]["readable"] for read in reads if read is not None and "all" in read]
        if len(found) < len(items):
            return Cell("-", None)
        told = mean_of_estimates(
            [(_above(each["value"]), each["ci"] and list(map(_above, each["ci"]))) for each in found]
        )
        return percents(told["mean"], told["ci"])

    lines = [[Cell(row["name"], row["name"]), *(cell(row, items) for items in kinds.values())] for row in rows]
    strong = frozenset(number for number, row in enumerate(rows) if row["kind"] == ENCODER)
    members = [f"{kind}: {', '.join(items)}" for kind, items in kinds.items()]
    how = (
        "The mean over items of how far above chance they are read, 2 (area - 0.5) in %, each area a mean over levels; "
        f"without {MIRRORED}, which training under flips takes away. "
        f"{'; '.join(members)}. "
        "The levels decide how large the first is: compare observers of one exam alone. Intervals from those of the "
        "items, whose images are independent."
    )
    return Table("kinds", "Details, configurations, relations", how, ("observer", *kinds), lines, strong)


def _above(area: float) -> float:
    return 2 * area - 1


def _layers(row: Row, items: Sequence[str], number: int, curve: str) -> Table:
    """What each layer reads of each item at the easiest level, by the pooling of which that `curve` is highest."""
    lines = []
    for layer, stride in row["strides"].items():
        cells = [Cell(layer, layer), Cell("-" if stride is None else str(stride), stride)]
        for item in items:
            top = easiest(row, item, layer, curve)
            found = top["easy"][curve]
            shown = percents(found["value"], found["ci"])
            cells.append(Cell(f"{shown.number} {top['pool']}", shown.value))
        lines.append(cells)
    key, what, how = CURVES[curve]
    columns = ("layer", "stride, px", *items)
    folded = row["kind"] != ENCODER or curve != READABLE
    return Table(f"{key}-{number}", f"{what} of {row['name']}", how, columns, lines, folded=folded, names=1)


READABLE, PRESENT = "readable", "present"
CURVES = {  # the key of a table of layers, what it is called, and how to read it
    READABLE: (
        "layers",
        "Layers",
        "Right choices at the easiest level, in %, by the pooling that reads most; chance 50. A layer that reads less "
        "than one before it has lost something, or keeps it where no linear read-out finds it.",
    ),
    PRESENT: (
        "present",
        "Within pairs: layers",
        "Pairs in the right order at the easiest level, in %, which differ in nothing but the answer and their noise, "
        "by the pooling that has most of them; chance 50. What is high here and near 50 among unlike scenes is present "
        "in the layer, but hidden by nuisances.",
    ),
}


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
