"""Label-free health: how many directions an embedding uses, and whether dimensions have died. No score: an alarm."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict

from probekit import measurement as m
from probekit.output.document import Chart, Table, by, count, drawing, number
from probekit.probes.measurements.base import Probe
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo
    from probekit.probes.measure import Conditions, Source


class Singular(TypedDict):
    uncentred: list[m.Number]
    centred: list[m.Number]


class Ranks(TypedDict):
    uncentred: m.Number | None
    centred: m.Number | None


class HealthRow(m.Named):
    n: m.Count
    dim: m.Count
    singular_values: Singular
    rankme: Ranks
    participation_ratio: m.Number | None
    deviation: list[m.Number]
    dead: m.Count


@dataclass(frozen=True)
class Health(Probe):
    name = "health"
    title = "Label-free health"
    help = "Look for signs of a collapse, which need no labels; with the labels of train and test this is done unasked."
    about = (
        "Embeddings of the test images, no labels. RankMe: exp of the entropy of the singular values (Garrido et al. "
        "2023), of the embeddings as they are (as in the paper) and centred, where a common offset no longer counts. "
        "An alarm for collapse, no score: noise has the highest rank. No intervals."
    )
    shape = HealthRow
    baselines = (RANDOM,)
    needs = ()
    fits = False
    several = True
    followable = False
    offered = False  # it comes along with labels

    def check(self, conditions: "Conditions") -> None:
        info = conditions.labels.info
        test = info.splits.get("test")
        if test is None or test.n < 2:
            found = "no test split" if test is None else "one test image"
            raise ValueError(
                f"expected two test images or more for --health, found {found} in {info.path}; "
                "type: probekit import SOURCE --test-fraction 0.2"
            )

    def unasked(self, info: "DatasetInfo") -> bool:
        return "test" in info.splits and info.splits["test"].n > 1

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        from probekit.probes.spectrum import health

        return {"name": source.name, "kind": source.kind, **health(source.features("test"))}

    def tables(self, result: m.Result) -> list[Table]:
        first = m.encoder_row(result)
        how = (
            "Participation ratio: of the variances. Mean deviation: of a dimension after rows are scaled to length 1; "
            f"about 1/sqrt(D) = {_even(first):.3f} when healthy; dead: below a hundredth of it."
        )
        columns = {
            "RankMe, uncentred": lambda row: number(row["rankme"]["uncentred"], 1),
            "RankMe, centred": lambda row: number(row["rankme"]["centred"], 1),
            "participation ratio": lambda row: number(row["participation_ratio"], 1),
            "mean deviation": lambda row: number(fmean(row["deviation"]) if row["deviation"] else None),
            "dead dimensions": by("dead", count),
            "dimensions": by("dim", count),
        }
        return [m.rows_table("ranks", "Effective rank", columns, result["rows"], how=how)]

    def charts(self, result: m.Result) -> list[Chart]:
        rows = m.encoders_first(result["rows"])
        even = _even(rows[0])
        spreads = [(r["name"], range(1, len(r["deviation"]) + 1), sorted(r["deviation"], reverse=True)) for r in rows]
        return [
            Chart(
                "spectrum",
                "Spectrum of the embedding",
                "Singular values, divided by the largest; those below a millionth of it are not drawn.",
                drawing(
                    "draw_lines",
                    _spectra(rows),
                    x="number of the singular value",
                    y="singular value / largest",
                    log=True,
                ),
            ),
            Chart(
                "deviation",
                "Deviation of each dimension",
                "Standard deviation of each dimension after rows are scaled to length 1 (SimSiam, Chen and He 2021), "
                f"the largest first; dashed: 1/sqrt(D) = {even:.3f}.",
                drawing("draw_lines", spreads, x="dimension, sorted", y="standard deviation", reference=even),
            ),
        ]

    def sentences(self, result: m.Result) -> list[str]:
        found = m.encoder_row(result)
        untrained = next((row for row in result["rows"] if row["name"] == RANDOM), None)
        beside = "" if untrained is None else f" (random weights: {_rank(untrained)})"
        dead = f", {found['dead']} of them dead" if found["dead"] else ""
        most = found["n"] - 1  # centred, so many images span no more directions
        few = f"at most {most} with {found['n']} test images, " if most < found["dim"] else ""
        return [f"Effective rank {_rank(found)}{beside} of {few}{found['dim']} dimensions{dead} (RankMe, centred)."]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """None: a higher rank is not better."""
        return {}


def _even(row: m.Row) -> float:
    return 1 / sqrt(max(1, row["dim"]))


def _rank(row: m.Row) -> str:
    rank = row["rankme"]["centred"]
    return "0, all embeddings alike" if rank is None else f"{rank:.1f}"


def _spectra(rows: Sequence[m.Row]) -> list[tuple[str, range, list[float]]]:
    spectra = []
    for row in rows:
        for kind in ("centred", "uncentred"):
            sigma = row["singular_values"][kind]
            top = max(sigma, default=0.0)
            kept = [value / top for value in sigma if top > 0 and value > 1e-6 * top]
            spectra.append((f"{row['name']}, {kind}", range(1, len(kept) + 1), kept))
    return spectra
