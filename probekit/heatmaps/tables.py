"""The tables and curves of a heatmap result."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.measurement import BASELINE, Result, Row
from probekit.output.document import Cell, Table, count, drawing, estimate, number, text

EVIDENCE = "evidence:"  # begins masks of what decides a class factor; the others are whole objects
OF_LABELS = ("mask of the label", "boxes of the label")  # what each label of an image that has several is held against
MAP, CEILING = "map", "ceiling"  # kinds of rows, beside `BASELINE`
KINDS = (MAP, BASELINE, CEILING)
SCORES = {
    "pointing": "pointing",
    "relevance_mass": "relevance mass",
    "rank_accuracy": "rank accuracy",
    "auroc": "AUROC",
}
NAIVE = ("uniform", "centre")
MEANS = {False: "Means over images", True: "Means over labels, each over its images"}
SWAP = (
    "Pixels are replaced by those of the counterfactual, the map's highest first; y is what is left of the margin "
    "between their classes, 1 for the image, 0 for its counterfactual. Score: area above the curve; 0.5 for a random "
    "order, high is good. Ratios of means over images, 95 % intervals in brackets. Misordered: the margin is not "
    "higher on the image than on its counterfactual."
)


def swapped(rows: Sequence[Row]) -> list[str]:
    """Class factors whose counterfactuals were swapped in."""
    return list(dict.fromkeys(factor for row in rows for factor in row["swap"]))


def scored(rows: Sequence[Row], mask: str) -> tuple[str | None, list[Row]]:
    """The class factor whose evidence a mask is, None of others; and the rows with scores against it."""
    factor = mask.removeprefix(EVIDENCE) if mask.startswith(EVIDENCE) else None
    return factor, [row for row in rows if mask in row["scores"] and (factor is None or row["target"] in ("", factor))]


def scores_table(result: Result, rows: Sequence[Row], mask: str, key: str, has_evidence: bool) -> Table:
    """Scores of every row against one mask; against a whole object on demand, where there is evidence."""
    factor, kept = scored(rows, mask)
    chance = result["chance"].get(mask)
    told = "" if chance is None else f" Chance, the mask's share of the image: {chance:.3f}; for AUROC 0.5."
    how = (
        "Pointing: whether the highest point lies in the mask; relevance mass: share of the positive map inside "
        "it; rank accuracy: share of the mask's size of highest pixels inside it; AUROC: over pixels. "
        f"{MEANS['labels' in result]}, 95 % intervals. Rank, normalised: 0 is chance, 1 the mask itself at the map's "
        f"grid. Undefined: images without a score, which no mean counts.{told}"
    )
    columns = (*SCORES.values(), "rank accuracy, normalised", "undefined")
    title = f"Scores against {mask if factor is None else f'the evidence of {factor}'}"
    cells = [_mask_scores(row["scores"][mask]) for row in kept]
    return _table(key, title, how, columns, kept, cells, "undefined", folded=factor is None and has_evidence)


def labels_table(rows: Sequence[Row], mask: str, key: str) -> Table:
    """The scores of each label by itself, of the maps of the encoder and of the baselines that know no image."""
    shown = [row for row in rows if row["kind"] == MAP or row["name"] in NAIVE]
    classes = list(dict.fromkeys(name for row in shown for name in row["scores"][mask]["auroc"].get("classes", ())))
    lines = []
    for name in classes:
        for row in shown:
            own = {score: row["scores"][mask][score]["classes"].get(name) or {} for score in SCORES}
            lines.append([text(name), text(_label(row)), *(estimate(own[score], 2) for score in SCORES)])
            lines[-1].append(count(own["auroc"].get("n", 0)))
    columns = ("label", "map", *SCORES.values(), "images")
    how = "As above, of each label by itself, over the images that show it."
    return Table(key, f"Each label, against the {mask}", how, columns, lines, folded=True, details=frozenset())


def _table(
    key: str,
    title: str,
    how: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    cells: Sequence[Sequence[Cell]],
    *details: str,
    folded: bool = False,
) -> Table:
    """A line for each map, what it is before its cells; the maps of the encoder in bold."""
    lines = []
    for row, own in zip(rows, cells, strict=True):
        grid = Cell(" x ".join(map(str, row["grid"])) or "-", row["grid"][0] if row["grid"] else None)
        lines.append([text(_label(row)), text(row["kind"]), grid, *own])
    maps = frozenset(i for i, row in enumerate(rows) if row["kind"] == MAP)
    strong = maps if len(maps) < len(rows) else frozenset[int]()
    hidden = frozenset(("kind", "grid", *details))
    return Table(key, title, how, ("map", "kind", "grid", *columns), lines, strong, folded=folded, details=hidden)


def _mask_scores(scores: Mapping[str, Any]) -> list[Cell]:
    undefined = {name: scores[name]["undefined"] for name in SCORES if name in scores and scores[name]["undefined"]}
    told = ", ".join(f"{SCORES[name]} {images}" for name, images in undefined.items())
    return [
        *(estimate(scores.get(name), 2) for name in SCORES),
        estimate(scores.get("rank_accuracy", {}).get("normalised"), 2),
        Cell(told or "0", max(undefined.values(), default=0)),
    ]


def faithfulness_tables(result: Result, rows: Sequence[Row]) -> list[Table]:
    """What masking by each map does to the true class's probability; none where it was not asked."""
    kept = [(row, factor, seen) for row in rows for factor, seen in row["perturbation"].items()]
    if not kept:
        return []
    how = (
        f"Each image is seen through its map, the rest filled with {result['fill']}, and the true class's probability "
        "compared. Average Drop, in %: low is good; Increase and Gain, in %: high. A map of ones is perfect, so the "
        f"mean of the map, 0 to 1, stands beside. {MEANS['labels' in result]}, 95 % intervals."
    )
    filled = any(factor for _, factor, _ in kept)
    columns = (*(["fill"] * filled), "drop %", "increase %", "gain %", "mean map", "n")
    cells = [
        [
            *([text(f"{result['fill']}, {factor}")] * filled),
            *(estimate(seen[name], 1) for name in ("average_drop", "average_increase", "average_gain")),
            estimate(seen["mean_map"], 2),
            count(seen["n"]),
        ]
        for _, factor, seen in kept
    ]
    maps = [row for row, _, _ in kept]
    return [_table("faithful", "Perturbation scores: seen through the map", how, columns, maps, cells, "n")]


def swap_table(rows: Sequence[Row], factor: str, key: str) -> Table:
    """The swap scores of one class factor."""
    kept = [row for row in rows if factor in row["swap"]]
    counts = ("n", "undefined", "misordered")
    found = [row["swap"][factor] for row in kept]
    cells = [[estimate(swap["score"], 2), *(count(swap[name]) for name in counts)] for swap in found]
    title = f"Perturbation scores: swap with the counterfactual, {factor}"
    return _table(key, title, SWAP, ("score", *counts), kept, cells, "undefined")


def sanity_tables(rows: Sequence[Row]) -> list[Table]:
    """Which maps depend on the weights; none where it was not asked."""
    kept = [row for row in rows if row["sanity_check"]]
    if not kept:
        return []
    stages = list(dict.fromkeys(stage for row in kept for stage in row["sanity_check"]["stages"]))
    how = (
        "The encoder's blocks are re-initialised one after another, and its maps compared with the trained ones: mean "
        "Spearman correlation (Adebayo et al. 2018). A map passes if with all weights random it is no more alike than "
        "those of independent networks, and these agree by less than 0.95: else the weights hardly matter. All targets "
        "together. Pass or fail only: no ranking."
    )
    columns = ("passes", "similarity", "null, low", "null, high", *stages, "n")
    cells = [_randomised(row["sanity_check"], stages) for row in kept]
    return [_table("sanity", "Sanity check by random weights", how, columns, kept, cells, "n", *stages)]


def _randomised(found: Mapping[str, Any], stages: Sequence[str]) -> list[Cell]:
    cascade = dict(zip(found["stages"], found["cascade"], strict=False))
    low, high = found["null"] or (None, None)
    return [
        text({True: "yes", False: "no", None: "-"}[found["passes"]]),
        *(number(value, 2) for value in (found["similarity"], low, high)),
        *(number(cascade.get(stage), 2) for stage in stages),
        count(found["n"]),
    ]


def _label(row: Row) -> str:
    """A map's name, and what it is of."""
    return ", ".join(filter(None, (row["name"], row["target"])))


def swap_curves(kept: Sequence[tuple[Row, Mapping[str, Any]]]) -> Any:
    """The curves of rows, baselines in grey."""
    series = [(_label(row), swap["x"], swap["y"]) for row, swap in kept]
    grey = [_label(row) for row, _ in kept if row["kind"] != MAP]
    return drawing("draw_lines", series, x="share of pixels swapped", y="margin that is left", grey=grey)
