"""Where an encoder looks, scored against masks and by perturbation: what may be asked, and how results are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypedDict

from probekit.measurement import BASELINE, About, Count, Interval, Measurement, Named, Number, Result, Row, Score, Share
from probekit.measurement import option as field
from probekit.output.document import Cell, Chart, Table, count, estimate, number, percents, text
from probekit.registry import MAPS, POOLS, nearest

EVIDENCE = "evidence:"  # begins masks of what decides a class factor; the others are whole objects
MAP, CEILING = "map", "ceiling"  # kinds of rows, beside `BASELINE`
KINDS = (MAP, BASELINE, CEILING)
SCORES = {"pointing": "pointing", "mass": "mass", "rank": "rank", "auroc": "AUROC"}
FILLS = ("black", "mean", "grey", "blur", "counterfactual")
TARGETS = ("pair", "margin", "logit")
MOST_LINES = 10  # of a chart


class Mean(TypedDict):
    """A mean over images."""

    mean: Number | None
    ci: Interval


class Against(Mean):
    """One score against one mask."""

    n: Count
    undefined: Count
    normalised: Mean | None


class Faithful(TypedDict):
    """What masking by the map does to the true class's probability."""

    n: Count
    average_drop: Mean
    average_increase: Mean
    average_gain: Mean
    mean_map: Mean


class Swap(TypedDict):
    """The counterfactual swap curve."""

    n: Count
    undefined: Count
    misordered: Count
    score: Mean | None
    x: list[Number]
    y: list[Number]


class Sanity(TypedDict):
    """The check by parameter randomisation."""

    passes: bool | None
    similarity: Number | None
    null: Interval
    cascade: list[Number | None]
    stages: list[str]
    n: Count


class MapRow(Named):
    """Maps under one name; see `heatmaps.protocol.evaluate`."""

    target: str
    encoder: str
    grid: list[int]
    scores: dict[str, dict[str, Against]]
    faithfulness: dict[str, Faithful]
    swap: dict[str, Swap]
    randomisation: Sanity | None


class Explained(TypedDict):
    """The probe whose answers are explained, on the images that are looked at."""

    accuracy: Share
    ci: Interval


class AboutMaps(About):
    """What a result has beside its rows."""

    target: str | None
    fill: str
    masks: list[str]
    chance: dict[str, Number]
    left_out: list[str]
    probe: Explained | None


def read_maps(text: str) -> tuple[str, ...]:
    """Names with commas; "all" is every one."""
    return tuple(MAPS) if text == "all" else tuple(name.strip() for name in text.split(","))


@dataclass(frozen=True)
class Heatmap(Measurement):
    """Attribution maps, and what they are worth."""

    maps: tuple[str, ...] | None = field(
        None,
        "--maps",
        "Attribution maps with commas between (see probekit list maps), or all; without it the cheap ones.",
        metavar="NAME,NAME",
        read=read_maps,
        write=",".join,
    )
    target: str | None = field(
        None, "--target", "What maps explain; without it pair where images have counterfactuals.", choices=TARGETS
    )
    fill: str = field("black", "--fill", "What stands where an image is hidden.", choices=FILLS)  # as the papers
    n: int = field(200, "--n", "How many test images, evenly spaced.", least=1)  # ours: rank and mass then have +-.02
    perturb: int = field(  # ours: a minute on two slow cores
        32, "--perturb", "How many of these images to use for the perturbation scores; 0 skips them.", least=0
    )
    window: int = field(16, "--window", "The side of what occlusion hides, in pixels.", least=1)
    stride: int = field(8, "--stride", "The step of occlusion, in pixels.", least=1)

    name = "heatmap"
    title = "Heatmaps"
    shape = MapRow
    whole = AboutMaps
    command: ClassVar[str] = "heatmap"

    def __post_init__(self) -> None:
        """Refuses names that there are not, and what does not go together.

        Raises:
            ValueError: Saying what to type.
        """
        super().__post_init__()
        for name in self.maps or ():
            if name not in MAPS:
                raise ValueError(nearest("map", name, MAPS))
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

    def encoder_rows(self, result: Result) -> list[Row]:
        """Maps of the trained encoder."""
        return [row for row in result["rows"] if row["kind"] == MAP]

    def tables(self, result: Result) -> list[Table]:
        """Scores against each mask, masks of evidence first: they are what only the class changes."""
        rows = sorted(result["rows"], key=lambda row: KINDS.index(row["kind"]))
        masks = sorted(result["masks"], key=lambda mask: not mask.startswith(EVIDENCE))
        has_evidence = any(mask.startswith(EVIDENCE) for mask in masks)
        tables = [_scores(result, rows, mask, f"scores-{i}", has_evidence) for i, mask in enumerate(masks)]
        tables += _faithfulness(result, rows)
        tables += [_swap(rows, factor, f"swap-{i}-table") for i, factor in enumerate(_factors(rows))]
        return [*tables, *_sanity(rows)]

    def charts(self, result: Result) -> list[Chart]:
        """Maps of single images, and the curves of counterfactual swaps."""
        how = (
            "Maps of single images: red above zero, blue below, or from black up, each by its own scale, printed under "
            "it. Orange and blue: evidence, green: its outline, where the images have masks of it."
        )
        charts = [Chart("gallery", "Maps of single images", how, _drawn_when_measured, photographs=True)]
        for i, factor in enumerate(_factors(result["rows"])):
            kept = [(row, row["swap"][factor]) for row in result["rows"] if factor in row["swap"]]
            drawn = [(row, swap) for row, swap in kept if swap["x"] and len(swap["x"]) == len(swap["y"])]
            own = [(row, swap) for row, swap in drawn if row["encoder"] != "random"]
            if own:
                told = "" if len(own) <= MOST_LINES else f" {MOST_LINES} of {len(own)} are drawn; the table has all."
                title = f"Counterfactual swap curves, {factor}"
                charts.append(Chart(f"swap-{i}", title, f"{SWAP}{told}", partial(_curves, own[:MOST_LINES])))
        return charts

    def sentences(self, result: Result) -> list[str]:
        """What is explained, and what the numbers cannot say."""
        lines = []
        if result["probe"]:
            found = percents(result["probe"]["accuracy"], result["probe"]["ci"])
            share = f"{found.number} % of these images {found.ends}".rstrip()
            lines.append(f"Explained: a linear probe, target {result['target']}, right on {share}.")
        if not result["masks"]:
            lines.append(f"{result['data']} holds no masks, so the maps have no scores against them.")
        if any(swap["score"] is None for row in result["rows"] for swap in row["swap"].values()):
            lines.append("No swap score (-): the probe does not tell the images from their counterfactuals.")
        if result["fill"] == "black" and result.get("black_ground") and any(row["faithfulness"] for row in result["rows"]):
            lines.append("Hiding a black ground with black costs nothing (see uniform, ink); --fill mean does.")
        return [*lines, *(f"Left out: {line}." for line in result["left_out"])]

    def scores(self, row: Row) -> dict[str, Score]:
        """AUROC and rank accuracy against the evidence of each class factor; a ceiling's own factor alone."""
        found = {}
        for mask, scores in row["scores"].items():
            factor = mask.removeprefix(EVIDENCE)
            if mask.startswith(EVIDENCE) and row["target"] in ("", factor):
                for key in ("auroc", "rank"):
                    found[f"{SCORES[key]}: {factor}"] = Score(scores[key]["mean"], scores[key]["ci"])
        return found

    def main_scores(self, row: Row) -> dict[str, Score]:
        """All of them."""
        return self.scores(row)

    def allows(self, pool: str | None) -> bool:
        """The weights of a pooling alone, where it has some."""
        return self.maps != ("attention",) or (pool is not None and POOLS[pool].weighs)


SWAP = (
    "Pixels are replaced by those of the counterfactual, the map's highest first; y is what is left of the margin "
    "between their classes, 1 for the image, 0 for its counterfactual. Score: area above the curve; 0.5 for a random "
    "order, high is good. Ratios of means over images, 95 % intervals in brackets. Misordered: the margin is not "
    "higher on the image than on its counterfactual."
)


def _factors(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(factor for row in rows for factor in row["swap"]))


def _scores(result: Result, rows: Sequence[Row], mask: str, key: str, has_evidence: bool) -> Table:
    factor = mask.removeprefix(EVIDENCE) if mask.startswith(EVIDENCE) else None
    kept = [row for row in rows if mask in row["scores"] and (factor is None or row["target"] in ("", factor))]
    chance = result["chance"].get(mask)
    told = "" if chance is None else f" Chance, the mask's share of the image: {chance:.3f}; for AUROC 0.5."
    how = (
        "Pointing: whether the highest point lies in the mask; mass (relevance mass): share of the positive map inside "
        "it; rank (rank accuracy): share of the mask's size of highest pixels inside it; AUROC: over pixels. Means "
        "over images, 95 % intervals. Rank, normalised: 0 is chance, 1 the mask itself at the map's grid. Undefined: "
        f"images without a score, which no mean counts.{told}"
    )
    columns = ("map", "kind", "grid", *SCORES.values(), "rank, normalised", "undefined")
    cells = [[*_names(row), *_mask_scores(row["scores"][mask])] for row in kept]
    title = f"Scores against {mask if factor is None else f'the evidence of {factor}'}"
    hidden = frozenset(("kind", "grid", "undefined"))
    return Table(key, title, how, columns, cells, _maps(kept), folded=factor is None and has_evidence, details=hidden)


def _names(row: Row) -> list[Cell]:
    grid = Cell(" x ".join(map(str, row["grid"])) or "-", row["grid"][0] if row["grid"] else None)
    return [text(_label(row)), text(row["kind"]), grid]


def _mask_scores(scores: Mapping[str, Any]) -> list[Cell]:
    undefined = {name: scores[name]["undefined"] for name in SCORES if name in scores and scores[name]["undefined"]}
    told = ", ".join(f"{SCORES[name]} {images}" for name, images in undefined.items())
    return [
        *(estimate(scores.get(name), 2) for name in SCORES),
        estimate(scores.get("rank", {}).get("normalised"), 2),
        Cell(told or "0", max(undefined.values(), default=0)),
    ]


def _faithfulness(result: Result, rows: Sequence[Row]) -> list[Table]:
    kept = [(row, factor, seen) for row in rows for factor, seen in row["faithfulness"].items()]
    if not kept:
        return []
    how = (
        f"Each image is seen through its map, the rest filled with {result['fill']}, and the true class's probability "
        "compared. Average Drop, in %: low is good; Increase and Gain, in %: high. A map of ones is perfect, so the "
        "mean of the map, 0 to 1, stands beside. Means over images, 95 % intervals."
    )
    filled = any(factor for _, factor, _ in kept)
    columns = ("map", "kind", "grid", *(["fill"] if filled else []), "drop %", "increase %", "gain %", "mean map", "n")
    cells = [
        [
            *_names(row),
            *([text(f"{result['fill']}, {factor}")] if filled else []),
            *(estimate(seen[name], 1) for name in ("average_drop", "average_increase", "average_gain")),
            estimate(seen["mean_map"], 2),
            count(seen["n"]),
        ]
        for row, factor, seen in kept
    ]
    hidden = frozenset(("kind", "grid", "n"))
    title = "Perturbation scores: seen through the map"
    return [Table("faithful", title, how, columns, cells, _maps([row for row, _, _ in kept]), details=hidden)]


def _swap(rows: Sequence[Row], factor: str, key: str) -> Table:
    kept = [(row, row["swap"][factor]) for row in rows if factor in row["swap"]]
    columns = ("map", "kind", "grid", "score", "n", "undefined", "misordered")
    cells = [
        [*_names(row), estimate(swap["score"], 2), *(count(swap[name]) for name in ("n", "undefined", "misordered"))]
        for row, swap in kept
    ]
    title = f"Perturbation scores: swap with the counterfactual, {factor}"
    hidden = frozenset(("kind", "grid", "undefined"))
    return Table(key, title, SWAP, columns, cells, _maps([row for row, _ in kept]), details=hidden)


def _sanity(rows: Sequence[Row]) -> list[Table]:
    kept = [row for row in rows if row["randomisation"]]
    if not kept:
        return []
    stages = list(dict.fromkeys(stage for row in kept for stage in row["randomisation"]["stages"]))
    how = (
        "The encoder's blocks are re-initialised one after another, and its maps compared with the trained ones: mean "
        "Spearman correlation (Adebayo et al. 2018). A map passes if with all weights random it is no more alike than "
        "those of independent networks, and these agree by less than 0.95: else the weights hardly matter. All targets "
        "together. Pass or fail only: no ranking."
    )
    columns = ("map", "kind", "grid", "passes", "similarity", "null, low", "null, high", *stages, "n")
    lines = [_randomised(row, stages) for row in kept]
    hidden = frozenset(("kind", "grid", "n", *stages))
    return [Table("sanity", "Sanity check by random weights", how, columns, lines, details=hidden)]


def _randomised(row: Row, stages: Sequence[str]) -> list[Cell]:
    found = row["randomisation"]
    cascade = dict(zip(found["stages"], found["cascade"], strict=False))
    low, high = found["null"] or (None, None)
    return [
        *_names(row),
        text({True: "yes", False: "no", None: "-"}[found["passes"]]),
        *(number(value, 2) for value in (found["similarity"], low, high)),
        *(number(cascade.get(stage), 2) for stage in stages),
        count(found["n"]),
    ]


def _maps(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(i for i, row in enumerate(rows) if row["kind"] == MAP)


def _label(row: Row) -> str:
    """A map's name, and what it is of."""
    return ", ".join(filter(None, (row["name"], row["target"])))


def _curves(kept: Sequence[tuple[Row, Mapping[str, Any]]]) -> Any:
    from probekit.output.charts import draw_lines

    series = [(_label(row), swap["x"], swap["y"]) for row, swap in kept]
    grey = [_label(row) for row, _ in kept if row["kind"] != MAP]
    return draw_lines(series, x="share of pixels swapped", y="margin that is left", grey=grey)


def _drawn_when_measured() -> Any:
    raise AssertionError("the maps are not kept")
