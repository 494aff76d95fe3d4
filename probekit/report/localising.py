"""The section from heatmap results: the gallery, scores against masks, faithfulness, swap curves, randomisation."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from probekit.report.document import (
    Block,
    Cell,
    Chart,
    Note,
    Picture,
    Section,
    Table,
    command,
    count,
    estimate,
    number,
    text,
)
from probekit.report.figures import draw_lines

KINDS = ("look", "baseline", "ceiling")
SCORES = {"pointing": "pointing", "mass": "mass", "rank": "rank", "auroc": "AUROC"}
EVIDENCE = "evidence:"  # masks of what decides a class factor; the others are whole objects
MOST_LINES = 10  # of a chart

Row = Mapping[str, Any]


def heatmap_section(run: Mapping[str, Any], key: str) -> Section:
    """Pictures first, then the numbers of each results file."""
    blocks: list[Block] = [
        Picture(
            f"{key}-gallery-{i}",
            f"Heatmaps: {Path(picture['file']).name}",
            f"Maps of single images, as probekit heatmap drew them. Again: {_again(run)}",
            Path(picture["file"]),
        )
        for i, picture in enumerate(run["pictures"])
        if picture["kind"] == "heatmap"
    ]
    for i, found in enumerate(run["heatmaps"]):
        blocks += _numbers(run, found, f"{key}-heatmap-{i}")
    if not blocks:
        blocks = [Note("No heatmaps yet. Make and score them by typing:", _again(run))]
    return Section(f"{key}-heatmaps", "Heatmaps", blocks)


def _numbers(run: Mapping[str, Any], found: Mapping[str, Any], key: str) -> list[Block]:
    rows = sorted(found["rows"], key=lambda row: KINDS.index(row["kind"]) if row["kind"] in KINDS else len(KINDS))
    # Masks of evidence first: they are what only the class changes.
    masks = sorted(found["masks"], key=lambda mask: not mask.startswith(EVIDENCE))
    blocks: list[Block] = [_scores(run, found, rows, mask, f"{key}-scores-{i}") for i, mask in enumerate(masks)]
    if not masks:
        blocks.append(Note(f"{found['data']} holds no masks, so the maps have no scores against them."))
    blocks += _faithfulness(run, found, rows, f"{key}-faithful")
    blocks += _swap(run, found, rows, f"{key}-swap")
    blocks += _randomisation(run, found, rows, f"{key}-random")
    return blocks + [Note(f"Not computed: {line}") for line in found["left_out"]]


def _scores(run: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[Row], mask: str, key: str) -> Table:
    scored = [row for row in rows if mask in row["scores"]]
    chance = found["chance"].get(mask)
    told = "" if chance is None else f" Chance, the mask's share of the image: {chance:.3f}; of AUROC: 0.5."
    how = (
        f"{_source(found)} Pointing: whether the highest point lies in the mask; mass: share of the positive map "
        "inside it; rank: share of the mask's size of highest pixels inside it; AUROC: over pixels. Means over "
        "images, 95 % intervals in brackets. Rank, normalised: 0 is chance, 1 the mask itself at the map's grid. "
        f"Undefined: images without a score, which no mean counts.{told} Again: {_again(run)}"
    )
    columns = ("map", "kind", "encoder", "grid", *SCORES.values(), "rank, normalised", "undefined")
    cells = [[*_names(row), *_mask_scores(row["scores"][mask])] for row in scored]
    title = f"Scores against {'the evidence of ' if mask.startswith(EVIDENCE) else ''}{mask.removeprefix(EVIDENCE)}"
    return Table(key, title, how, columns, cells, _looks(scored), folded=not mask.startswith(EVIDENCE))


def _names(row: Row) -> list[Cell]:
    grid = row["grid"]
    return [
        text(_label(row)),
        text(row["kind"]),
        text(row["encoder"] or "-"),
        Cell("-", None) if not grid else Cell(" x ".join(map(str, grid)), grid[0]),
    ]


def _mask_scores(scores: Mapping[str, Any]) -> list[Cell]:
    undefined = {name: scores[name]["undefined"] for name in SCORES if name in scores and scores[name]["undefined"]}
    told = ", ".join(f"{SCORES[name]} {images}" for name, images in undefined.items())
    normalised = scores["rank"]["normalised"] if "rank" in scores else None
    return [
        *(estimate(scores.get(name), 2) for name in SCORES),
        estimate(normalised, 2),
        Cell(told or "0", max(undefined.values(), default=0)),
    ]


def _faithfulness(run: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[Row], key: str) -> list[Block]:
    kept = [row for row in rows if row["faithfulness"]]
    if not kept:
        return []
    how = (
        f"{_source(found)} The image is multiplied by its map, the rest filled with "
        f"{kept[0]['faithfulness']['fill']}, and scored again. Average drop: lower is better; increase and gain: "
        "higher. A map of ones is perfect, so its mean stands beside. Means over images, 95 % intervals in brackets. "
        f"Again: {_again(run)}"
    )
    columns = ("map", "kind", "encoder", "grid", "average drop", "average increase", "average gain", "mean map", "n")
    names = ("average_drop", "average_increase", "average_gain", "mean_map")
    cells = [
        [*_names(row), *(estimate(row["faithfulness"][name], 2) for name in names), count(row["faithfulness"]["n"])]
        for row in kept
    ]
    return [Table(key, "Faithfulness", how, columns, cells, _looks(kept))]


def _swap(run: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[Row], key: str) -> list[Block]:
    kept = [row for row in rows if row["swap"]]
    if not kept:
        return []
    how = (
        f"{_source(found)} Pixels are replaced by those of the image's counterfactual sibling, the map's highest "
        "first; y is the score, 1 for the image, 0 for its sibling. Score: area above the curve; 0.5 for a random "
        f"order, higher is better. Means over images, 95 % intervals in brackets. Again: {_again(run)}"
    )
    names = [(_label(row), row) for row in kept]
    series = [(name, row["swap"]["x"], row["swap"]["y"]) for name, row in names if row["swap"]["x"]]
    drawn = [line for line in series if len(line[1]) == len(line[2])][:MOST_LINES]
    grey = [name for name, row in names if row["kind"] != "look"]
    draw = partial(draw_lines, drawn, x="share of pixels swapped", y="score that is left", grey=grey)
    told = (
        "" if len(drawn) == len(series) else f" The first {len(drawn)} of {len(series)} are drawn; the table has all."
    )
    columns = ("map", "kind", "encoder", "grid", "score", "n", "undefined")
    cells = [
        [*_names(row), estimate(row["swap"]["score"], 2), count(row["swap"]["n"]), count(row["swap"]["undefined"])]
        for row in kept
    ]
    chart = [Chart(key, "Counterfactual swap curves", f"{how}{told}", draw)] if drawn else []
    return [*chart, Table(f"{key}-table", "Counterfactual swap scores", how, columns, cells, _looks(kept))]


def _randomisation(run: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[Row], key: str) -> list[Block]:
    kept = [row for row in rows if row["randomisation"]]
    if not kept:
        return []
    stages = list(dict.fromkeys(stage for row in kept for stage in row["randomisation"]["stages"]))
    how = (
        f"{_source(found)} The encoder's stages are re-initialised one after another, and its maps compared with the "
        "trained ones (Adebayo et al. 2018). A look passes if the maps then are no more alike than those of "
        f"independent networks. Pass or fail only: no ranking. Again: {_again(run)}"
    )
    columns = ("map", "kind", "encoder", "grid", "passes", "similarity", "null, low", "null, high", *stages, "n")
    return [Table(key, "Parameter randomisation", how, columns, [_randomised(row, stages) for row in kept])]


def _randomised(row: Row, stages: Sequence[str]) -> list[Cell]:
    found = row["randomisation"]
    cascade = dict(zip(found["stages"], found["cascade"], strict=False))
    low, high = found["null"] or (None, None)
    passes = {True: "yes", False: "no", None: "-"}[found["passes"]]
    return [
        *_names(row),
        text(passes),
        *(number(value, 2) for value in (found["similarity"], low, high)),
        *(number(cascade.get(stage), 2) for stage in stages),
        count(found["n"]),
    ]


def _looks(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(i for i, row in enumerate(rows) if row["kind"] == "look")


def _label(row: Row) -> str:
    """A map's name, what it is of, and which encoder's, if not the trained one's."""
    other = row["encoder"] if row["encoder"] != "trained" else ""
    return ", ".join(filter(None, (row["name"], row["target"], other)))


def _source(found: Mapping[str, Any]) -> str:
    return (
        f"Maps of {found['n']} images of {found['data']}, split {found['split']}, checkpoint {found['checkpoint']}, "
        f"epoch {found['epoch']}, target {found['target']}, seed {found['seed']}."
    )


def _again(run: Mapping[str, Any]) -> str:
    return command("probekit", "heatmap", run["argument"])
