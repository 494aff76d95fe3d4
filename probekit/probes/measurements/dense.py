"""Does the map know where? A linear classifier on each of its cells, against exact masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Chart, Table, count, drawing, percents, plain, text
from probekit.probes.measurements.base import Probe
from probekit.probes.measurements.curves import of_run
from probekit.probes.measurements.depth import Depth, readable
from probekit.weights import RANDOM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from probekit.probes.dense import Labels, Logits, Question
    from probekit.probes.measure import Conditions, Source
    from probekit.probes.scenes import Reads, Scenes
    from probekit.restore.opened import Opened

PIXELS, PLACE, CEILING = "pixels", "position alone", "masks in cells"
MOST_CLASSES = 8  # of a question; beyond, the table of classes is folded


class Asked(TypedDict):
    """What was told apart; of each class its own intersection over union."""

    name: str
    classes: list[str]
    miou: m.Estimate
    accuracy: m.Estimate
    iou: list[m.Estimate]
    C: m.Number | None
    note: str


class DenseRow(m.Named):
    """`grid`: rows and columns of cells; `cells`: how many were fitted, 0 where none was; `n`: test images."""

    n: m.Count
    grid: list[m.Count]
    dim: m.Count
    cells: m.Count
    questions: list[Asked]


@dataclass(frozen=True)
class Dense(Probe):
    name = "dense"
    title = "Dense probe"
    help = "Also fit a linear classifier to each cell of the map, and score it against masks, pixel by pixel."
    about = (
        "Logistic regression on the cells of the frozen map, protocol {protocol}; a cell's class in train is that of "
        "most of its area; on test the cells' logits are resized to the masks' pixels (bilinear), and the largest "
        "counts. Intersection over union (IoU) of all test pixels together; intervals: 95 % percentile bootstrap over "
        "test images."
    )
    shape = DenseRow
    baselines = (RANDOM,)
    needs = ()
    several = True
    of_layer = (PIXELS, PLACE, CEILING)
    names = ("mIoU, ", "IoU, ", "pixels right, ")

    def check(self, conditions: "Conditions") -> None:
        from probekit.h5 import read_info
        from probekit.probes.scenes import known_of

        info, opened = conditions.labels.info, conditions.opened
        for split in ("train", "test"):
            if split not in info.splits:
                raise ValueError(f"expected a train and a test split with masks for --dense, found no {split}")
        if info.first.crop != read_info(info.path).first.crop:  # the masks are of what the file's own takes
            raise ValueError(
                f"expected masks for --dense, found none seen through the test crop {info.first.crop}; leave "
                "--test-crop out"
            )
        if not known_of(info.path, info.content_hash).questions:
            raise ValueError(
                f"expected masks for --dense, found none in {info.path}; type: --data FILE, of gen or of a set that "
                "brings masks along"
            )
        if opened is not None and not self.takes(opened, conditions):
            views, _ = readable(of_run(opened))
            mapped = [view.weights.layer for view in views if self.takes(view, conditions)]
            if mapped and Depth.name in conditions.asked:
                return
            deep = f"type: --layer {quote(str(mapped[-1]))}, the last of its layers that has one" if mapped else ""
            raise ValueError(
                f"expected an encoder with a map for --dense, found {opened.name}, which gives one embedding an "
                f"image; {deep or 'none of its layers has one: leave --dense out'}"
            )

    def takes(self, opened: "Opened", conditions: "Conditions") -> bool:
        """Whether it gives a map of several cells."""
        from probekit.probes.scenes import Scenes

        return Scenes.of(conditions.labels.info, opened).grid != (1, 1)

    def how(self, conditions: "Conditions") -> str:
        from probekit.probes.scenes import known_of

        info = conditions.labels.info
        without = known_of(info.path, info.content_hash).without
        lacking = ", ".join(f"{n:,} of {split}" for split, n in without.items() if n)
        return super().how(conditions) + (f" Images without masks are left out: {lacking}." if lacking else "")

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        assert source.opened is not None
        from probekit.probes.scenes import Scenes

        scenes = Scenes.of(conditions.labels.info, source.opened)
        return _row(source.name, source.kind, scenes.maps, scenes, conditions)

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """What needs no network, where there are baselines."""
        if not any(row["kind"] == m.BASELINE for found in rows.values() for row in found):
            return
        from probekit.probes.scenes import Scenes

        scenes = Scenes.of(conditions.labels.info, opened)
        rows[self.name].append(_row(PIXELS, m.BASELINE, scenes.pixels, scenes, conditions))
        rows[self.name] += _without_features(scenes, scenes.grid, conditions.seed)

    def tables(self, result: m.Result) -> list[Table]:
        asked, columns = m.encoder_row(result)["questions"], dict[str, Callable[[m.Row], Cell]]()
        columns |= {f"{found['name']}, mIoU %": _share(number, "miou") for number, found in enumerate(asked)}
        further = {f"{found['name']}, pixels right %": _share(number, "accuracy") for number, found in enumerate(asked)}
        further |= {f"{found['name']}, C": _penalty(number) for number, found in enumerate(asked)}
        further |= {
            "cells": lambda row: text("x".join(map(str, row["grid"]))),
            "dimensions": lambda row: count(row["dim"]),
            "cells fitted": lambda row: count(row["cells"]),
        }
        notes = [
            f"{row['name']}, {found['name']}: {found['note']}."
            for row in result["rows"]
            for found in row["questions"]
            if found["note"]
        ]
        ceiling = (
            f"{CEILING}: each cell knows the share of every class in it; a map of so many cells hardly tells more."
        )
        how = " ".join((ceiling, *notes))
        details = frozenset(further)
        rows = m.encoders_first(result["rows"])
        return [
            m.rows_table("scores", self.title, {**columns, **further}, rows, how=how, details=details),
            _of_classes(rows),
        ]

    def charts(self, result: m.Result) -> list[Chart]:
        charts = []
        for number, found in enumerate(m.encoder_row(result)["questions"]):
            rows = [
                {"name": row["name"], "kind": row["kind"], "accuracy": own["miou"]["value"], "ci": own["miou"]["ci"]}
                for row in m.encoders_first(result["rows"])
                for own in [row["questions"][number]]
            ]
            told = f"Mean IoU of {', '.join(found['classes'])}; whiskers: the intervals of the table; grey: baselines."
            drawn = drawing("draw_bars", rows, chance=None, x="mean IoU on test, %")
            charts.append(Chart(f"miou-{number}", f"Where things are, {found['name']}", told, drawn))
        return charts

    def sentences(self, result: m.Result) -> list[str]:
        encoder, *others = m.encoders_first(result["rows"])
        lines = []
        for number, found in enumerate(encoder["questions"]):
            beside = [
                f"{row['name']} {100 * value:.1f}"
                for row in others
                if (value := row["questions"][number]["miou"]["value"]) is not None
            ]
            shown = percents(found["miou"]["value"], found["miou"]["ci"])
            line = (
                f"{found['name']}: mean IoU {shown.text} % on {encoder['n']} test images, a linear probe of each cell"
            )
            lines.append(line + (f"; beside it {', '.join(beside)}." if beside else "."))
        return lines

    def proposed(self, run: Mapping[str, Any]) -> bool:
        return bool((run["data"] or {}).get("masks"))

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        found: dict[str, m.Score] = {}
        for kind, name in (("mIoU", "miou"), ("pixels right", "accuracy")):
            found |= {f"{kind}, {each['name']}": m.score_of(each[name]) for each in row["questions"]}
        for each in row["questions"]:
            ious = zip(each["classes"][1:], each["iou"][1:], strict=True)
            found |= {f"IoU, {title}": m.score_of(iou) for title, iou in ious}
        return found

    def main_scores(self, row: m.Row) -> dict[str, m.Score]:
        return {name: score for name, score in self.scores(row).items() if name.startswith("mIoU, ")}


def _share(number: int, name: str) -> Callable[[m.Row], Cell]:
    return lambda row: percents(row["questions"][number][name]["value"], row["questions"][number][name]["ci"])


def _penalty(number: int) -> Callable[[m.Row], Cell]:
    return lambda row: plain(row["questions"][number]["C"])


def _of_classes(rows: list[m.Row]) -> Table:
    """A line for each class of each question, a column for each row."""
    lines, questions = [], rows[0]["questions"]
    for number, asked in enumerate(questions):
        for place, title in enumerate(asked["classes"]):
            own = [row["questions"][number]["iou"][place] for row in rows]
            lines.append([text(asked["name"]), text(title), *(percents(each["value"], each["ci"]) for each in own)])
    columns = ("told apart", "class", *(row["name"] for row in rows))
    folded = len(lines) > MOST_CLASSES
    return Table("classes", "IoU of each class, %", "", columns, lines, folded=folded, names=2)


def _row(name: str, kind: str, read: "Reads", scenes: "Scenes", conditions: "Conditions") -> dict[str, Any]:
    """The row of what makes maps of images."""
    from probekit.probes.dense import confusions, fit_cells, read_cells

    seed, n = conditions.seed, scenes.known.n
    cells = {
        split: read_cells(scenes.batches(split, read), scenes.questions, n[split], seed=seed)
        for split in ("train", "val")
        if n.get(split)
    }
    fitted = fit_cells(cells["train"], cells.get("val"), scenes.questions, protocol=conditions.protocol, seed=seed)
    grid = list[int]()

    def logits(maps: "Tensor", labels: "Labels") -> "Mapping[str, Tensor]":
        grid[:] = maps.shape[2:]
        return {each: found.logits(maps) for each, found in fitted.items()}

    counts = list(confusions(scenes.batches("test", read), scenes.questions, logits))
    about = {"grid": grid, "dim": cells["train"].x.shape[1], "cells": len(cells["train"].x)}
    said = {each: {"C": found.C, "note": found.note} for each, found in fitted.items()}
    return {"name": name, "kind": kind, **about, **_scored(counts, scenes.questions, said, seed)}


def _without_features(scenes: "Scenes", grid: tuple[int, int], seed: int) -> list[dict[str, Any]]:
    """Rows of what looks at no image: where things are in train, the most frequent class, and the masks themselves."""
    from probekit.probes.dense import confusions, most_frequent, position, shares

    asked = scenes.questions
    places = position(scenes.labels("train"), asked, grid)
    classes = {each.name: len(each.classes) for each in asked}
    made: dict[str, Logits] = {
        PLACE: lambda maps, labels: places,
        m.CHANCE: lambda maps, labels: most_frequent(places),
        CEILING: lambda maps, labels: {each: shares(labels[each], k, grid) for each, k in classes.items()},
    }
    rows = []
    for name, logits in made.items():
        counts = list(confusions(scenes.unseen("test"), asked, logits))
        said = {each: {"C": None, "note": ""} for each in classes}
        about = {"name": name, "kind": m.BASELINE, "grid": list(grid), "dim": 0, "cells": 0}
        rows.append({**about, **_scored(counts, asked, said, seed)})
    return rows


def _scored(
    counts: "list[dict[str, NDArray[np.int64]]]",
    asked: "list[Question]",
    said: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    import numpy as np

    from probekit.probes.dense import score

    joined = {each.name: np.concatenate([part[each.name] for part in counts]) for each in asked}
    found = [
        {"name": q.name, "classes": list(q.classes), **score(joined[q.name], seed=seed), **said[q.name]} for q in asked
    ]
    return {"n": len(next(iter(joined.values()))), "questions": found}
