"""The section from heatmap results: the gallery, scores against masks, faithfulness, swap curves, randomisation."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from probekit.output.charts import draw_lines
from probekit.output.document import (
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
            "Maps of single images: red above zero, blue below, or from black up, each by its own scale, printed "
            f"under it. Orange and blue: evidence, green: its outline, where the images have masks of it. "
            f"Again: {_made_by(run, Path(picture['file']))}",
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
    blocks: list[Block] = [_scores(found, rows, mask, f"{key}-scores-{i}") for i, mask in enumerate(masks)]
    if not masks:
        blocks.append(Note(f"{found['data']} holds no masks, so the maps have no scores against them."))
    blocks += _faithfulness(found, rows, f"{key}-faithful")
    factors = dict.fromkeys(factor for row in rows for factor in row["swap"])
    for i, factor in enumerate(factors):
        blocks += _swap(found, rows, factor, f"{key}-swap-{i}")
    blocks += _randomisation(found, rows, f"{key}-random")
    return [*blocks, *map(Note, found["notes"]), *(Note(f"Not computed: {line}") for line in found["left_out"])]


def _scores(found: Mapping[str, Any], rows: Sequence[Row], mask: str, key: str) -> Table:
    factor = mask.removeprefix(EVIDENCE) if mask.startswith(EVIDENCE) else None
    scored = [row for row in rows if mask in row["scores"] and (factor is None or row["target"] in ("", factor))]
    chance = found["chance"].get(mask)
    told = "" if chance is None else f" Chance, the mask's share of the image: {chance:.3f}; of AUROC: 0.5."
    how = (
        f"{_source(found)} Pointing: whether the highest point lies in the mask; mass: share of the positive map "
        "inside it; rank: share of the mask's size of highest pixels inside it; AUROC: over pixels. Means over "
        "images, 95 % intervals in brackets. Rank, normalised: 0 is chance, 1 the mask itself at the map's grid. "
        f"Undefined: images without a score, which no mean counts.{told} Again: {found['command']}"
    )
    columns = ("map", "kind", "grid", *SCORES.values(), "rank, normalised", "undefined")
    cells = [[*_names(row), *_mask_scores(row["scores"][mask])] for row in scored]
    title = f"Scores against {mask if factor is None else f'the evidence of {factor}'}"
    return Table(key, title, how, columns, cells, _looks(scored), folded=factor is None)


def _names(row: Row) -> list[Cell]:
    grid = row["grid"]
    return [
        text(_label(row)),
        text(row["kind"]),
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


def _faithfulness(found: Mapping[str, Any], rows: Sequence[Row], key: str) -> list[Block]:
    kept = [(row, factor, seen) for row in rows for factor, seen in row["faithfulness"].items()]
    if not kept:
        return []
    how = (
        f"{_source(found)} Each image is seen through its map, the rest filled with {found['fill']}, and the true "
        "class's probability compared. Average Drop, in %: low is good; Increase and Gain, in %: high. A map of "
        "ones is perfect, so the mean of the map, 0 to 1, stands beside. Means over images, 95 % intervals in "
        f"brackets. Again: {found['command']}"
    )
    filled = any(factor for _, factor, _ in kept)
    columns = ("map", "kind", "grid", *(["fill"] if filled else []), "drop %", "increase %", "gain %", "mean map", "n")
    cells = [
        [
            *_names(row),
            *([text(f"{found['fill']}, {factor}")] if filled else []),
            *(estimate(seen[name], 1) for name in ("average_drop", "average_increase", "average_gain")),
            estimate(seen["mean_map"], 2),
            count(seen["n"]),
        ]
        for row, factor, seen in kept
    ]
    return [Table(key, "Faithfulness", how, columns, cells, _looks([row for row, _, _ in kept]))]


def _swap(found: Mapping[str, Any], rows: Sequence[Row], factor: str, key: str) -> list[Block]:
    kept = [(row, row["swap"][factor]) for row in rows if factor in row["swap"]]
    how = (
        f"{_source(found)} Pixels are replaced by those of the image with {factor} changed, the map's highest first; "
        "y is what is left of the margin between their classes, 1 for the image, 0 for its pair. Score: area above "
        "the curve; 0.5 for a random order, high is good. Ratios of means over images, 95 % intervals in "
        f"brackets. Misordered: the margin is not higher on the image than on its pair."
    )
    drawn = [(row, swap) for row, swap in kept if swap["x"] and len(swap["x"]) == len(swap["y"])]
    own = [pair for pair in drawn if pair[0]["encoder"] != "random"]
    series = [(_label(row), swap["x"], swap["y"]) for row, swap in own][:MOST_LINES]
    grey = [_label(row) for row, _ in own if row["kind"] != "look"]
    draw = partial(draw_lines, series, x="share of pixels swapped", y="margin that is left", grey=grey)
    told = "" if len(series) == len(drawn) else f" {len(series)} of {len(drawn)} are drawn; the table has all."
    again = f" Again: {found['command']}"
    columns = ("map", "kind", "grid", "score", "n", "undefined", "misordered")
    cells = [
        [*_names(row), estimate(swap["score"], 2), *(count(swap[name]) for name in ("n", "undefined", "misordered"))]
        for row, swap in kept
    ]
    chart = [Chart(key, f"Counterfactual swap curves, {factor}", f"{how}{told}{again}", draw)] if series else []
    looks = _looks([row for row, _ in kept])
    if not series:
        how += " No score: the probe does not tell the images from their pairs."
    return [
        *chart,
        Table(f"{key}-table", f"Counterfactual swap scores, {factor}", f"{how}{again}", columns, cells, looks),
    ]


def _randomisation(found: Mapping[str, Any], rows: Sequence[Row], key: str) -> list[Block]:
    kept = [row for row in rows if row["randomisation"]]
    if not kept:
        return []
    stages = list(dict.fromkeys(stage for row in kept for stage in row["randomisation"]["stages"]))
    how = (
        f"{_source(found)} The encoder's blocks are re-initialised one after another, and its maps compared with the "
        "trained ones: mean Spearman correlation (Adebayo et al. 2018). A look passes if with all weights random the "
        "maps are no more alike than those of independent networks, and these agree by less than 0.95: else the "
        "weights hardly matter. All targets of a look together. Pass or fail only: no ranking. "
        f"Again: {found['command']}"
    )
    columns = ("map", "kind", "grid", "passes", "similarity", "null, low", "null, high", *stages, "n")
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
    """A map's name, and what it is of."""
    return ", ".join(filter(None, (row["name"], row["target"])))


def _source(found: Mapping[str, Any]) -> str:
    target = f", target {found['target']}" if found["target"] else ""
    return (
        f"Maps of {found['n']} images of {found['data']}, split {found['split']}, checkpoint {found['checkpoint']}, "
        f"{found['after']}{target}, seed {found['seed']}."
    )


def _made_by(run: Mapping[str, Any], picture: Path) -> str:
    """The command of the results that a picture is named after."""
    commands = {Path(found["file"]).stem: str(found["command"]) for found in run["heatmaps"]}
    return commands.get(picture.stem, _again(run))


def _again(run: Mapping[str, Any]) -> str:
    return command("probekit", "heatmap", *run["argument"])
