"""Pictures of a sweep: the maps of some of its rows side by side, on each dataset, of runs of the first seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from probekit.checked import Meta
from probekit.measurement import Measurement
from probekit.sweep.datasets import Name
from probekit.sweep.measures import check_distinct, read_measure

if TYPE_CHECKING:
    from probekit.sweep.plan import PlannedRun

KIND = "heatmap"  # the command that draws, and the measurement whose options it takes


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture as a sweep file has it: `heatmap` are options of that measurement."""

    name: Name
    rows: Annotated[tuple[str, ...], Meta(min_length=2)]
    heatmap: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_distinct(self.rows, f"rows of figure {self.name}")
        assert self.asked

    @property
    def asked(self) -> Measurement:
        """What is measured of each row's run."""
        (found,) = read_measure({"linear": False, KIND: self.heatmap}, f"figure {self.name}").asked
        return found

    def file(self, dataset: str) -> str:
        """The name of its picture of a dataset."""
        return f"{self.name}-{dataset}.png"

    def command(self, runs: Sequence["PlannedRun"], device: str, out: Path) -> list[str]:
        """Arguments of `probekit` that draw it."""
        return [KIND, *(run.name for run in runs), *self.asked.words, "--device", device, "--out", str(out)]


def drawable(
    figures: Sequence[Figure], planned: Sequence["PlannedRun"], finished: Mapping[str, bool], folder: Path
) -> Iterator[tuple[Figure, list["PlannedRun"], Path]]:
    """The pictures all of whose runs are finished and that are not there yet, with their runs and where they go."""
    for figure in figures:
        for dataset in dict.fromkeys(run.dataset for run in planned):
            own = [run for run in planned if run.dataset == dataset and run.seed == planned[0].seed]
            rows = {run.row.name: run for run in own if finished.get(run.name)}
            out = folder / figure.file(dataset)
            if all(row in rows for row in figure.rows) and not out.exists():
                yield figure, [rows[row] for row in figure.rows], out
