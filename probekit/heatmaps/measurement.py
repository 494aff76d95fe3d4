"""Where an encoder looks, scored against masks and by perturbation: what may be asked, and how results are read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired, TypedDict

from probekit.heatmaps import tables
from probekit.heatmaps.verdict import verdicts
from probekit.measurement import About, Count, Interval, Measurement, Named, Number, Result, Row, Score, Share
from probekit.measurement import option as field
from probekit.output.document import Chart, Table, percents
from probekit.registry import MAPS, POOLS, map_named

FILLS = {  # name: what it is
    "black": "0",
    "mean": "the mean colour of train",
    "grey": "1/2",
    "blur": "the image itself, blurred",
    "counterfactual": "the same scene with one class factor changed",
}
TARGETS = {
    "pair": "the margin of the true class over that of the counterfactual, for each class factor",
    "margin": "the margin over the strongest other class",
    "logit": "the logit of the true class",
}
MASKED = {"average drop": "average_drop", "average increase": "average_increase"}  # of `numbers`
MOST_LINES = 10  # of a chart
FILTERS = "gfb:"  # begins the names of maps of single filters


class Mean(TypedDict):
    mean: Number | None
    ci: Interval
    classes: NotRequired[dict[str, Any]]


class Against(Mean):
    n: Count
    undefined: Count
    normalised: Mean | None


class Perturbed(TypedDict):
    n: Count
    average_drop: Mean
    average_increase: Mean
    average_gain: Mean
    mean_map: Mean


class Swap(TypedDict):
    n: Count
    undefined: Count
    misordered: Count
    score: Mean | None
    x: list[Number]
    y: list[Number]


class Sanity(TypedDict):
    passes: bool | None
    similarity: Number | None
    null: Interval
    cascade: list[Number | None]
    stages: list[str]
    n: Count


class MapRow(Named):
    target: str
    encoder: str
    grid: list[int]
    scores: dict[str, dict[str, Against]]
    perturbation: dict[str, Perturbed]
    swap: dict[str, Swap]
    sanity_check: Sanity | None


class Explained(TypedDict):
    accuracy: Share
    ci: Interval


class AboutMaps(About):
    target: str | None
    fill: str
    masks: list[str]
    chance: dict[str, Number]
    left_out: list[str]
    probe: Explained | None
    labels: NotRequired[Count]


def _meanings(of: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {about}" for name, about in of.items()) + "."


def read_maps(text: str) -> tuple[str, ...]:
    """Names with commas; "all" is every one."""
    return tuple(MAPS) if text == "all" else tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True)
class Heatmap(Measurement):
    maps: tuple[str, ...] | None = field(
        None,
        "--maps",
        "Attribution maps with commas between (see probekit list maps), or all; without it the cheap ones. "
        "self-attention:3 is one head, self-attention:all is each; likewise gfb:all, the filters of lcr.",
        metavar="NAME,NAME",
        read=read_maps,
        write=",".join,
    )
    target: str | None = field(
        None,
        "--target",
        f"What maps explain; without it pair where images have counterfactuals, else margin. {_meanings(TARGETS)}",
        choices=tuple(TARGETS),
    )
    fill: str = field(  # as the papers
        "black", "--fill", f"What stands where an image is hidden. {_meanings(FILLS)}", choices=tuple(FILLS)
    )
    n: int = field(
        200, "--n", "How many test images, evenly spaced.", least=1
    )  # ours: rank accuracy and relevance mass then have +-.02
    perturb: int = field(  # ours: a minute on two slow cores
        32,
        "--perturb",
        "How many of these images to use for the perturbation scores; 0 skips them and the sanity check.",
        least=0,
    )
    window: int = field(16, "--window", "The side of what occlusion hides, in pixels.", least=1)
    stride: int = field(8, "--stride", "The step of occlusion, in pixels.", least=1)

    name = "heatmap"
    title = "Heatmaps"
    shape = MapRow
    version = 2
    whole = AboutMaps
    command: ClassVar[str] = "heatmap"
    terse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.maps or ():
            map_named(name)
        if self.fill == "counterfactual" and self.target not in (None, "pair"):
            raise ValueError(
                f"expected --target pair for --fill counterfactual, found --target {self.target}; "
                "type: --target pair, or --fill mean"
            )
        if self.stride > self.window:  # some pixels would never be hidden
            raise ValueError(
                f"expected --stride of at most --window, {self.window}, found {self.stride}; "
                f"type: --stride {self.window}"
            )

    @property
    def needs_evidence(self) -> bool:
        return not self.perturb

    def encoder_rows(self, result: Result) -> list[Row]:
        return [row for row in result["rows"] if row["kind"] == tables.MAP]

    def tables(self, result: Result) -> list[Table]:
        """Scores against each mask, masks of evidence first: they are what only the class changes."""
        rows = sorted(result["rows"], key=lambda row: tables.KINDS.index(row["kind"]))
        masks = sorted(result["masks"], key=lambda mask: not mask.startswith(tables.EVIDENCE))
        has_evidence = any(mask.startswith(tables.EVIDENCE) for mask in masks)
        found = [tables.scores_table(result, rows, mask, f"scores-{i}", has_evidence) for i, mask in enumerate(masks)]
        found += [tables.labels_table(rows, mask, f"labels-{i}") for i, mask in enumerate(masks) if "labels" in result]
        found += tables.faithfulness_tables(result, rows)
        found += [tables.swap_table(rows, factor, f"swap-{i}-table") for i, factor in enumerate(tables.swapped(rows))]
        return [*found, *tables.sanity_tables(rows)]

    def charts(self, result: Result) -> list[Chart]:
        how = (
            "Maps over single images: orange above zero, blue below, on one scale a row; white lines: the evidence of "
            "the map's factor, where the images have masks of it, and under each map its AUROC against it. Maps that "
            "are the same but for their unit are drawn once."
        )
        charts = [Chart("gallery", "Maps of single images", how, _drawn_when_measured, photographs=True)]
        if several_filters([row["name"] for row in result["rows"]]):
            how = "One scale for all: at each cell the largest of them is the branch's map."
            charts.append(Chart("filters", "Maps of single filters", how, _drawn_when_measured, photographs=True))
        for i, factor in enumerate(tables.swapped(result["rows"])):
            kept = [(row, row["swap"][factor]) for row in result["rows"] if factor in row["swap"]]
            drawn = [(row, swap) for row, swap in kept if swap["x"] and len(swap["x"]) == len(swap["y"])]
            own = [(row, swap) for row, swap in drawn if row["encoder"] != "random"]
            if own:
                told = "" if len(own) <= MOST_LINES else f" {MOST_LINES} of {len(own)} are drawn; the table has all."
                title = f"Counterfactual swap curves, {factor}"
                charts.append(Chart(f"swap-{i}", title, f"{tables.SWAP}{told}", tables.swap_curves(own[:MOST_LINES])))
        return charts

    def sentences(self, result: Result) -> list[str]:
        lines = []
        if result["probe"]:
            found = percents(result["probe"]["accuracy"], result["probe"]["ci"])
            told = f"a linear probe, target {result['target']}, right on {found.number} % of these images"
            if "labels" in result:
                told = f"a linear probe a label, target logit; of the labels here it finds {found.number} %"
            lines.append(f"Explained: {told} {found.ends}".rstrip() + ".")
        lines += verdicts(result)
        if not result["masks"]:
            lines.append(f"{result['data']} holds no masks, so the maps have no scores against them.")
        if any(swap["score"] is None for row in result["rows"] for swap in row["swap"].values()):
            lines.append("No swap score (-): the probe does not tell the images from their counterfactuals.")
        if (
            result["fill"] == "black"
            and result.get("black_ground")
            and any(row["perturbation"] for row in result["rows"])
        ):
            lines.append("Hiding a black ground with black costs nothing (see uniform, ink); --fill mean does.")
        return [*lines, *(f"Left out: {line}." for line in result["left_out"])]

    def named(self) -> tuple[str, ...]:
        return *(f"{name}: " for name in tables.SCORES.values()), *MASKED, *(f"{name}: " for name in MASKED)

    def numbers(self, row: Row) -> dict[str, Score]:
        """Its scores, and Average Drop and Increase as shares; of a drop less is better."""
        found = self.scores(row)
        for fill, seen in row["perturbation"].items():
            for name, key in MASKED.items():
                kept = seen[key]
                value = None if kept["mean"] is None else kept["mean"] / 100
                ends = None if kept["ci"] is None else [end / 100 for end in kept["ci"]]
                found[f"{name}: {fill}" if fill else name] = Score(value, ends)
        return found

    def scores(self, row: Row) -> dict[str, Score]:
        """AUROC and rank accuracy against the evidence of each class factor; a ceiling's own factor alone.

        Of images with several labels those of the labels, and pointing and relevance mass, which benchmarks have.
        """
        found = {}
        for mask, scores in row["scores"].items():
            factor = mask.removeprefix(tables.EVIDENCE)
            if mask in tables.OF_LABELS or (mask.startswith(tables.EVIDENCE) and row["target"] in ("", factor)):
                for key in tables.SCORES if mask in tables.OF_LABELS else ("auroc", "rank_accuracy"):
                    found[f"{tables.SCORES[key]}: {factor}"] = Score(scores[key]["mean"], scores[key]["ci"])
        return found

    def main_scores(self, row: Row) -> dict[str, Score]:
        return self.scores(row)

    def allows(self, pool: str | None) -> bool:
        """The weights of a pooling alone, where it has some."""
        return self.maps != ("attention",) or (pool is not None and POOLS[pool].weighs)


def _drawn_when_measured() -> Any:
    raise AssertionError("the maps are not kept")


def several_filters(names: Iterable[str]) -> bool:
    """Whether there are maps of several filters of an encoder, which have a picture of their own."""
    return len({name for name in names if name.startswith(FILTERS) and "," not in name}) > 1
