"""Another measurement on fractions of the training labels (ConRec paper, Figure 2; LCR paper, Table 2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Chart, Table, drawing, scored
from probekit.probes.measurements.base import Probe, by_row, other

if TYPE_CHECKING:
    from probekit.probes.measure import Conditions, Source

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # ConRec paper, Figure 2: 1 to 100 %; LCR, Table 2: 20, 50, 100 %
DRAWS = 5  # ours; ConRec's code repeats APTOS 5 times, the other sets once
OTHERS = ("linear", "knn", "cv", "sgd", "multilabel")  # what depends on the labels of train


class Point(TypedDict):
    fraction: m.Number
    n: m.Number
    scores: dict[str, m.Estimate]


class FractionsRow(m.Named):
    of: str
    points: list[Point]
    complexity: dict[str, m.Number]
    complexity_ci: dict[str, m.Interval]
    n_test: m.Count


def read_fractions(text: str) -> tuple[float, ...]:
    """Percentages with commas, "1,10", as shares; a ValueError if it is no list of numbers."""
    try:
        if not text.isascii():  # float reads the digits of every script, and the result would not say so
            raise ValueError
        return tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected percentages with commas, found {text!r}; type: --fractions 1,10,100") from None


def write_fractions(shares: Sequence[float]) -> str:
    """The inverse of `read_fractions`."""
    return ",".join(f"{100 * share:g}" for share in shares)


def percent_of(share: float) -> str:
    """0.01 -> "1 % of labels"."""
    return f"{100 * share:g} % of labels"


@dataclass(frozen=True)
class Fractions(Probe):
    fractions: tuple[float, ...] = m.option(
        FRACTIONS,
        "--fractions",
        "Also measure on these percentages of the training labels, such as 1,2,5,10,20,50,100.",
        asks=True,
        metavar="%,%",
        read=read_fractions,
        write=write_fractions,
    )
    draws: int = m.option(DRAWS, "--draws", "How many subsets of each size --fractions draws.", least=1)
    of: str = m.option("linear", "--fractions-of", "What --fractions measures on each subset.", choices=OTHERS)

    name = "fractions"
    title = "Fractions of the labels"
    about = (
        "Stratified nested subsets of the labels of train, {draws} draws of each size; intervals: 95 % Student t over "
        "draws, with all labels those of a single measurement; sample complexity: 95 % percentile bootstrap over draws."
    )
    shape = FractionsRow
    several = True
    followable = False

    def __post_init__(self) -> None:
        """Brings the fractions into order, with 1 among them; needs and baselines are of what is measured."""
        super().__post_init__()
        for share in self.fractions:
            if not 0 < share <= 1:
                raise ValueError(
                    f"expected fractions above 0 and up to 100 %, found {100 * share:g}; type: --fractions 1,10"
                )
        object.__setattr__(self, "fractions", tuple(sorted({*self.fractions, 1.0})))
        inner = m.measurement(self.of)
        assert isinstance(inner, Probe)
        object.__setattr__(self, "needs", inner.needs)
        beside = tuple(name for name in type(self).baselines if name in inner.baselines)
        object.__setattr__(self, "baselines", beside)  # others are too slow for it, or no head of its kind

    def check(self, conditions: "Conditions") -> None:
        inner, info = self._inner(conditions), conditions.labels.info
        if info.multilabel and not inner.several:
            raise ValueError(
                f"expected one label an image for --fractions-of {self.of}, found several in {info.path}; "
                "type: --fractions-of multilabel"
            )
        inner.check(conditions)

    def how(self, conditions: "Conditions") -> str:
        return f"{super().how(conditions)} On each subset: {self._inner(conditions).how(conditions)}"

    def made_of(self, asked: Mapping[str, m.Measurement]) -> dict[str, m.Measurement]:
        return {self.of: asked.get(self.of) or m.measurement(self.of)}

    def protocol(self, conditions: "Conditions") -> str:
        found = self._inner(conditions).protocol(conditions)
        return found if self.of == "linear" else "-".join(dict.fromkeys((self.of, found)))

    def typed(self, conditions: "Conditions") -> list[str]:
        return [*self.words, *self._inner(conditions).words]

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.fractions import fractions

        inner = self._inner(conditions)

        def measured(among: Any) -> Any:
            return inner.scores(inner.row(source, replace(conditions, among=among)))

        part = conditions.labels.parts["train"]
        found = fractions(part, measured, shares=self.fractions, draws=self.draws, seed=conditions.seed)
        scored = conditions.labels.parts["test" if "test" in self.needs else "train"]
        return {"name": source.name, "kind": source.kind, "of": self.of, **found, "n_test": len(scored.y)}

    def tables(self, result: m.Result) -> list[Table]:
        rows = result["rows"]
        names = by_row(rows, lambda row: row["points"][-1]["scores"])
        return [self._table(rows, name, first=name == names[0]) for name in names]

    def charts(self, result: m.Result) -> list[Chart]:
        name = next(iter(m.encoder_row(result)["points"][-1]["scores"]))
        draw = _curves(m.encoders_first(result["rows"]), name)
        return [Chart("curve", f"{name} by number of labels", "Band: intervals.", draw)]

    def proposed(self, run: Mapping[str, Any]) -> bool:
        return m.measurement(self.of).proposed(run)

    def named(self) -> tuple[str, ...]:
        return m.measurement(self.of).named()

    def measures(self, number: str) -> bool:
        name, _, share = number.rpartition(", ")
        shares = [percent_of(each) for each in self.fractions if each < 1]
        return share in shares and m.measurement(self.of).measures(name)

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """Each score at each share, the first one's first; with all labels they are the measurement's own."""
        names = by_row([row], lambda row: row["points"][-1]["scores"])
        return {
            f"{name}, {percent_of(point['fraction'])}": m.score_of(kept)
            for name in names
            for point in row["points"]
            if point["fraction"] < 1 and (kept := point["scores"].get(name))  # all labels: the measurement's own
        }

    def main_scores(self, row: m.Row) -> dict[str, m.Score]:
        first = next(iter(row["points"][-1]["scores"]))
        return {name: score for name, score in self.scores(row).items() if name.startswith(f"{first}, ")}

    def _inner(self, conditions: "Conditions") -> Probe:
        return other(conditions, self.of)

    def _table(self, rows: list[m.Row], name: str, *, first: bool) -> Table:
        shares = [point["fraction"] for point in m.encoder_row({"rows": rows})["points"]]
        levels = by_row(rows, lambda row: row["complexity"]) if first else []

        def at(share: float) -> Callable[[m.Row], Cell]:
            return lambda row: m.score_cell({p["fraction"]: p["scores"].get(name) for p in row["points"]}.get(share))

        def counted(level: str) -> Callable[[m.Row], Cell]:
            return lambda row: scored(row["complexity"].get(level), row["complexity_ci"].get(level), 0)

        columns = {percent_of(share): at(share) for share in shares}
        columns |= {f"images for {100 * float(level):g} %": counted(level) for level in levels}
        whole = m.encoder_row({"rows": rows})["points"][-1]["scores"].get(name)
        title = f"{m.score_title(name, whole)}, on fractions of the labels"
        how = "Last columns: sample complexity, the images from which on the mean stays at a share of that with all."
        told = how if levels else ""
        return m.rows_table(f"by-share-{name}", title, columns, rows, how=told, folded=not first)


def _curves(rows: Sequence[m.Row], name: str) -> Any:
    lines, bands = [], {}
    for row in rows:
        points = [point for point in row["points"] if point["scores"].get(name, m.UNKNOWN)["value"] is not None]
        kept = [point["scores"][name] for point in points]
        lines.append((row["name"], [point["n"] for point in points], [score["value"] for score in kept]))
        if row["kind"] == m.ENCODER:
            bands[row["name"]] = [score["ci"] or [score["value"]] * 2 for score in kept]
    grey = [row["name"] for row in rows if row["kind"] != m.ENCODER]
    return drawing(
        "draw_lines", lines, x="labelled training images", y=name, marker="o", grey=grey, bands=bands, log_x=True
    )
