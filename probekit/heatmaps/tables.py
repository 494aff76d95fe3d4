"""The tables and curves of a heatmap result."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.measurement import BASELINE, Result, Row
from probekit.output.document import Cell, Table, count, drawing, estimate, number, text

EVIDENCE = "evidence:"  # begins masks of what decides a class factor; the others are whole objects
MAP, CEILING = "map", "ceiling"  # kinds of rows, beside `BASELINE`
KINDS = (MAP, BASELINE, CEILING)
SCORES = {
    "pointing": "pointing",
    "relevance_mass": "relevance mass",
    "rank_accuracy": "rank accuracy",
    "auroc": "AUROC",
}
SWAP = (
    "Pixels are replaced by those of the counterfactual, the map's highest first; y is what is left of the margin "
    "between their classes, 1 for the image, 0 for its counterfactual. Score: area above the curve; 0.5 for a random "
    "order, high is good. Ratios of means over images, 95 % intervals in brackets. Misordered: the margin is not "
    "higher on the image than on its counterfactual."
)


def swapped(rows: Sequence[Row]) -> list[str]:
    """Class factors whose counterfactuals were swapped in."""
    return list(dict.fromkeys(factor for row in rows for factor in row["swap"]))


def scores_table(result: Result, rows: Sequence[Row], mask: str, key: str, has_evidence: bool) -> Table:
    """Scores of every row against one mask; against a whole object on demand, where there is evidence."""
    factor = mask.removeprefix(EVIDENCE) if mask.startswith(EVIDENCE) else None
    kept = [row for row in rows if mask in row["scores"] and (factor is None or row["target"] in ("", factor))]
    chance = result["chance"].get(mask)
    told = "" if chance is None else f" Chance, the mask's share of the image: {chance:.3f}; for AUROC 0.5."
    how = (
        "Pointing: whether the highest point lies in the mask; relevance mass: share of the positive map inside "
        "it; rank accuracy: share of the mask's size of highest pixels inside it; AUROC: over pixels. Means "
        "over images, 95 % intervals. Rank, normalised: 0 is chance, 1 the mask itself at the map's grid. Undefined: "
        f"images without a score, which no mean counts.{told}"
    )
    columns = ("map", "kind", "grid", *SCORES.values(), "rank accuracy, normalised", "undefined")
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


def swap_table(rows: Sequence[Row], factor: str, key: str) -> Table:
    """The swap scores of one class factor."""
    kept = [(row, row["swap"][factor]) for row in rows if factor in row["swap"]]
    columns = ("map", "kind", "grid", "score", "n", "undefined", "misordered")
    cells = [
        [*_names(row), estimate(swap["score"], 2), *(count(swap[name]) for name in ("n", "undefined", "misordered"))]
        for row, swap in kept
    ]
    title = f"Perturbation scores: swap with the counterfactual, {factor}"
    hidden = frozenset(("kind", "grid", "undefined"))
    return Table(key, title, SWAP, columns, cells, _maps([row for row, _ in kept]), details=hidden)


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
    columns = ("map", "kind", "grid", "passes", "similarity", "null, low", "null, high", *stages, "n")
    lines = [_randomised(row, stages) for row in kept]
    hidden = frozenset(("kind", "grid", "n", *stages))
    return [Table("sanity", "Sanity check by random weights", how, columns, lines, details=hidden)]


def _randomised(row: Row, stages: Sequence[str]) -> list[Cell]:
    found = row["sanity_check"]
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


def swap_curves(kept: Sequence[tuple[Row, Mapping[str, Any]]]) -> Any:
    """The curves of rows, baselines in grey."""
    series = [(_label(row), swap["x"], swap["y"]) for row, swap in kept]
    grey = [_label(row) for row, _ in kept if row["kind"] != MAP]
    return drawing("draw_lines", series, x="share of pixels swapped", y="margin that is left", grey=grey)
