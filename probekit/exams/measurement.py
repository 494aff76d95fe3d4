"""What an encoder reads, in pixels: what may be asked of the exam, and how its results are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any, ClassVar, NotRequired, TypedDict

from probekit.exams import sentences, tables
from probekit.exams.items import CHANGED, ITEMS, LEAST, LOCAL, Item
from probekit.measurement import MOST, About, Count, Interval, Measurement, Named, Number, Result, Row, Score, Share
from probekit.measurement import option as field
from probekit.output.document import Chart, Table
from probekit.registry import check_named

PARTS = {  # name: what it tells
    "acuity": "the smallest difference that is read, in pixels",
    "layers": "in which layer, and by which pooling",
    "wholes": "what no patch can tell: configurations and relations",
    "conflict": "whole or parts, where they disagree",
    "invariance": "what a read-out keeps when contrast, polarity, size, place or side change",
}
PRESETS = ("quick", "full")
POOLS = ("gap", "max", "grid4", "cls", "own")
MOST_SEEDS = 20


class Px(TypedDict):
    """A threshold in pixels; beyond is ">" or "<" where it is outside the levels, and value their end then."""

    value: Number
    ci: tuple[Number, Number]
    beyond: str
    ci_beyond: list[str]


class Value(TypedDict):
    """A share or an area."""

    value: Share
    ci: Interval


class ReadAt(TypedDict):
    """See `scoring.read_at`."""

    readable: Value
    present: Value
    p: Share


class Both(TypedDict):
    """A threshold of each curve."""

    readable: Px
    present: Px


class Fit(TypedDict):
    """A psychometric function, along log2 px."""

    mu: Number
    sd: Number
    lapse: Share


class Read(TypedDict):
    """What one output reads of one item; see `scoring.item_numbers`."""

    layer: str
    pool: str
    areas: list[Share]
    orders: list[Share]
    easy: ReadAt
    rising: bool
    regimen: str
    all: NotRequired[ReadAt]
    threshold: NotRequired[Both]
    fit: NotRequired[Fit]


class Changed(TypedDict):
    """See `scoring.changed_numbers`."""

    layer: str
    pool: str
    area: Share
    ci: Interval
    kept: Number | None


class Conflict(TypedDict):
    """See `scoring.conflict_numbers`."""

    layer: str
    pool: str
    whole: list[Share]
    element: list[Share]
    follows: list[Share]
    ci: list[Interval]
    equal: Number | None


class ExamRow(Named):
    """An observer: what each of its outputs reads, by item."""

    strides: dict[str, Count | None]
    items: dict[str, list[Read]]
    invariance: dict[str, list[Changed]]
    conflict: list[Conflict]


class AboutItem(TypedDict):
    """An item, and what is proved of it."""

    about: str
    kind: str
    parameter: str
    px: list[Number]
    version: Count
    certificate: str


class AboutExam(About):
    """What a result has beside its rows."""

    size: Count
    noise: Number
    radii: list[Number]
    items: dict[str, AboutItem]
    pairs: dict[str, Count]
    seeds: list[Count]


def read_names(text: str) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between; a ValueError for anything else."""
    try:
        return tuple(dict.fromkeys(int(name) for name in read_names(text)))
    except ValueError:
        raise ValueError(f"expected --seeds as whole numbers, 0,1,2 for example, found {text!r}") from None


def _write(names: tuple[object, ...]) -> str:
    return ",".join(map(str, names))


NAMES: dict[str, Any] = {"metavar": "NAME,NAME", "read": read_names, "write": _write}


@dataclass(frozen=True)
class Exam(Measurement):
    """An eye test: what an encoder reads of drawings whose answers are known."""

    parts: tuple[str, ...] = field(
        tuple(PARTS), "--parts", f"Parts: {'; '.join(f'{name}: {told}' for name, told in PARTS.items())}.", **NAMES
    )
    items: tuple[str, ...] | None = field(
        None, "--items", "Only these items, landolt,bind for example; conflict and invariance stay.", **NAMES
    )
    preset: str = field(
        "quick",
        "--preset",
        "How many images: quick is minutes, full 7 times as many and 3 seeds.",
        choices=PRESETS,
    )
    size: int = field(128, "--size", "The side of the images, in pixels.", least=LEAST)
    noise: float = field(0.08, "--noise", "The noise of each image, as a share of the grey range.", least=0.01)
    seeds: tuple[int, ...] | None = field(
        None,
        "--seeds",
        "Seeds of the training pairs; without it 0 of quick, 0,1,2 of full.",
        metavar="N,N",
        read=read_seeds,
        write=_write,
    )
    layers: tuple[str, ...] = field(("all",), "--layers", "Layers that are read: all, last, or their names.", **NAMES)
    pools: tuple[str, ...] = field(POOLS, "--pools", f"How layers are pooled: {', '.join(POOLS)}.", **NAMES)

    name = "exam"
    title = "Exam"
    shape = ExamRow
    whole = AboutExam
    command: ClassVar[str] = "exam"
    needs = ()
    leads = own_images = True

    def __post_init__(self) -> None:
        """Refuses names that there are not."""
        super().__post_init__()
        for flag, names, known in (
            ("part", self.parts, tuple(PARTS)),
            ("item", self.items or (), tuple(ITEMS)),
            ("pooling", self.pools, POOLS),
        ):
            for name in names:
                check_named(f"{flag} of the exam", name, known)
        for flag, names in (
            ("--parts", self.parts),
            ("--items", tuple(ITEMS) if self.items is None else self.items),
            ("--layers", self.layers),
            ("--pools", self.pools),
        ):
            if not names:
                raise ValueError(f"expected a name after {flag}, found none")
        if len(self.layers) > 1 and (word := next((name for name in ("all", "last") if name in self.layers), None)):
            raise ValueError(f"expected --layers {word} or names, found {','.join(self.layers)}; type: --layers {word}")
        if not self.asked_items and "conflict" not in self.parts:
            found = ", ".join(self.items or ()) or "none"
            raise ValueError(f"expected --items of --parts {','.join(self.parts)}, found {found}; type: --parts layers")
        if self.size > 512:
            raise ValueError(f"expected --size at most 512, found {self.size}; type: --size 224")
        if not self.noise <= 0.5:
            raise ValueError(f"expected --noise at most 0.5, found {self.noise:g}; type: --noise 0.08")
        if self.seeds is not None and not 0 < len(self.seeds) <= MOST_SEEDS:
            raise ValueError(f"expected 1 to {MOST_SEEDS} --seeds, found {len(self.seeds)}; type: --seeds 0,1,2")
        for seed in self.seeds or ():
            if not 0 <= seed < MOST:
                raise ValueError(f"expected --seeds from 0 to {MOST:.0e}, found {seed}; type: --seeds 0,1,2")

    @property
    def asked_items(self) -> dict[str, Item]:
        """The items of the parts that are asked for."""
        parts, wanted = set(self.parts), ITEMS if self.items is None else self.items
        local, wholes = not parts.isdisjoint(("acuity", "layers")), not parts.isdisjoint(("wholes", "layers"))
        asked = {name for name in wanted if (local if ITEMS[name].kind == LOCAL else wholes)}
        asked |= {CHANGED} if "invariance" in parts else set()
        return {name: item for name, item in ITEMS.items() if name in asked}

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """Seeds of the training pairs."""
        return self.seeds or ((0,) if self.preset == "quick" else (0, 1, 2))

    def tables(self, result: Result) -> list[Table]:
        """Those of the parts that were asked for."""
        return tables.tables(result)

    def charts(self, result: Result) -> list[Chart]:
        """The one chart."""
        from functools import partial

        return [Chart("chart", "Exam", tables.CHART, partial(_draw, result))]

    def sentences(self, result: Result) -> list[str]:
        """What is read, seen, lost and followed."""
        return sentences.sentences(result)

    def scores(self, row: Row) -> dict[str, Score]:
        """What the embedding reads: of each item the area, the mean over its levels; without items what it follows."""
        found: dict[str, Score] = {}
        for item, outputs in row["items"].items():
            for read in outputs:
                if "all" in read and tables.output(read) == tables.EMBEDDING:
                    found[item] = Score(read["all"]["readable"]["value"], read["all"]["readable"]["ci"])
        return found or {name: score for name, score in _follows(row).items() if score.value is not None}

    def main_scores(self, row: Row) -> dict[str, Score]:
        """All."""
        return self.scores(row)

    def named(self) -> tuple[str, ...]:
        """Items, thresholds, and what is followed."""
        return (*ITEMS, *(f"{name}, log2 px" for name in ITEMS), "follows the whole")

    def numbers(self, row: Row) -> dict[str, Score]:
        """Its scores; thresholds of the embedding, less is finer, where they are within the levels; what it follows.

        That is None where the whole or the parts are not read alone.
        """
        found = self.scores(row)
        for item, outputs in row["items"].items():
            for read in outputs:
                if "threshold" in read and tables.output(read) == tables.EMBEDDING:
                    found[f"{item}, log2 px"] = _octaves(read["threshold"]["readable"])
        return found | _follows(row)


def _follows(row: Row) -> dict[str, Score]:
    """How often the embedding follows the whole, at the middle radius; None where one of the cues is not read alone."""
    for told in row["conflict"]:
        if tables.output(told) == tables.EMBEDDING:
            middle = len(told["follows"]) // 2
            read = min(told["whole"][middle], told["element"][middle]) >= tables.READ
            return {
                "follows the whole": Score(told["follows"][middle], told["ci"][middle]) if read else Score(None, None)
            }
    return {}


def _octaves(found: Mapping[str, Any]) -> Score:
    """A threshold in octaves, with 0 at 1 px; None where it is beyond the levels."""
    if found["beyond"]:
        return Score(None, None, low=-10.0)
    return Score(log2(found["value"]), [log2(end) for end in found["ci"]], low=-10.0)


def _draw(result: Result) -> Any:
    from probekit.exams.chart import draw_exam

    return draw_exam([result])
