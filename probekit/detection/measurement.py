"""Transfer to detection and segmentation: what may be asked, and how results are read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

from probekit import measurement as m
from probekit.detection.protocol import PRESETS, PROTOCOLS
from probekit.output.document import Cell, Table, count, percent, percent_interval, percents, points, text

MOST_CLASSES = 40  # beyond, the table of classes is folded
KINDS = {"boxes": "", "masks": "mask "}  # what is scored: what its scores are called by
HOW = (
    "AP: the mean over IoU of .50 to .95; AP50 and AP75: at that IoU alone; as COCO defines them, on {n:,} images of "
    "{split}, by pycocotools. Intervals: 95 % Student-t over trainings, of the same images."
)


class Trial(TypedDict):
    """One training: its seed, the mean loss of its last tenth, the scores of "boxes" and "masks"."""

    seed: m.Count
    loss: m.Number
    boxes: dict[str, m.Share | None]
    masks: dict[str, m.Share | None]


class OfClass(TypedDict):
    """The mean AP of a class over trainings, and how many of its objects count in the test."""

    name: str
    objects: m.Count
    boxes: m.Share | None
    masks: m.Share | None


class DetectionRow(m.Named):
    """A detector: means over its trainings, by score."""

    boxes: dict[str, m.Estimate]
    masks: dict[str, m.Estimate]
    trials: list[Trial]
    per_class: list[OfClass]


class AboutDetection(m.About):
    """What a result has beside its rows."""

    preset: str
    split: str
    n: m.Count
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Detection(m.Measurement):
    """Average precision of a detector on the backbone, beside the same one on random weights."""

    protocol: str = m.option(
        "xcorr", "--protocol", "How detectors are trained: xcorr, as the paper.", choices=PROTOCOLS
    )
    preset: str | None = m.option(
        None,
        "--preset",
        "The schedule: paper is hours on a GPU, quick is minutes, for generated scenes; "
        "without it paper on a GPU, else quick.",
        choices=PRESETS,
    )
    trials: int | None = m.option(
        None, "--trials", "Trainings, each of another seed; without it 5 of paper, 3 of quick.", least=1
    )

    name = "detect"
    title = "Detection"
    shape = DetectionRow
    whole = AboutDetection
    command: ClassVar[str] = "detect"
    main: ClassVar[tuple[str, ...]] = ("AP50", "AP", "AP75")
    needs = ()
    offered = False  # it needs images with boxes

    def tables(self, result: m.Result) -> list[Table]:
        """All scores, and the AP of each class of the encoder's detector."""
        first = self.encoder_rows(result)[0]
        kinds = [kind for kind in KINDS if first[kind]]
        columns: dict[str, Callable[[m.Row], Cell]] = {
            f"{KINDS[kind]}{name} %": _mean(kind, name) for kind in kinds for name in first[kind]
        }
        columns |= {"trainings": lambda row: count(len(row["trials"]))}
        lines = [
            [text(each["name"]), *(percent(each[kind]) for kind in kinds), count(each["objects"])]
            for each in first["per_class"]
        ]
        named = ("class", *(f"{KINDS[kind]}AP %" for kind in kinds), "objects in the test")
        how = HOW.format(n=result["n"], split=result["split"])
        return [
            m.rows_table("scores", self.title, columns, result["rows"], how=how),
            Table("classes", f"Each class, {first['name']}", "", named, lines, folded=len(lines) > MOST_CLASSES),
        ]

    def sentences(self, result: m.Result) -> list[str]:
        """The difference to the same detector on random weights, training by training."""
        from probekit.statistics import paired_seeds

        first = self.encoder_rows(result)[0]
        found = []
        for row in (row for row in result["rows"] if row["kind"] == m.BASELINE):
            for kind in (kind for kind in KINDS if first[kind] and row[kind]):
                pair = paired_seeds(_aps(first, kind), _aps(row, kind))
                if pair["mean"] is not None:
                    ends = f" {percent_interval(pair['ci']).text}" if pair["ci"] else ""
                    ends += "" if pair["testable"] else f"; too few trainings for an interval ({pair['n']} each)"
                    told = f"{KINDS[kind]}AP of {first['name']} minus that of {row['name']}"
                    found.append(f"{told}: {points(pair['mean']).number} points{ends}.")
        return [f"{each[:1].upper()}{each[1:]}" for each in found]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """AP50, AP and AP75 of boxes, and of masks where there are some."""
        return {
            f"{before}{name}": m.score_of(each) for kind, before in KINDS.items() for name, each in row[kind].items()
        }

    def named(self) -> tuple[str, ...]:
        """All scores there may be."""
        return tuple(f"{before}{name}" for before in KINDS.values() for name in self.main)

    def allows(self, pool: str | None) -> bool:
        """No pooling takes part."""
        return pool is None


def _mean(kind: str, name: str) -> Callable[[m.Row], Cell]:
    def cell(row: m.Row) -> Cell:
        found = row[kind].get(name, m.UNKNOWN)
        return percents(found["value"], found["ci"])

    return cell


def _aps(row: m.Row, kind: str) -> dict[int, float]:
    return {trial["seed"]: trial[kind]["AP"] for trial in row["trials"] if trial[kind].get("AP") is not None}
