"""What every measurement of `probekit probe` has beside the contract: a row for each source of features."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from probekit.measurement import CHANCE, Measurement, Row, Score, measurement
from probekit.output.document import Cell, percents
from probekit.probes import PROTOCOLS
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo
    from probekit.probes.measure import Conditions, Source
    from probekit.restore.opened import Opened

MOST_GRADES = 10  # that are named where kappa takes their order


@dataclass(frozen=True)
class Probe(Measurement):
    """A measurement of features."""

    about: ClassVar[str]  # how its numbers are obtained; `{protocol}` and its own fields are filled in
    baselines: ClassVar[tuple[str, ...]] = (RANDOM, CHANCE, "raw pixels", "patch bag")
    fits: ClassVar[bool] = True  # whether a linear probe is fitted, so that `--protocol` matters
    several: ClassVar[bool] = False  # whether an image may have several labels
    followable: ClassVar[bool] = True  # whether it can be followed along checkpoints in reasonable time
    of_features: ClassVar[bool] = True  # whether it is of an encoder's features alone, so that any layer has a row
    of_layer: ClassVar[tuple[str, ...]] = ()  # baselines that belong to one layer's grid, so to no curve over depth
    rows_of_sources: ClassVar[bool] = True  # whether each source has a row; else `rest` makes them

    @abstractmethod
    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        """The row of a source, valid JSON; see `shape`."""

    def proposed(self, run: Mapping[str, Any]) -> bool:
        """Where images have several labels, only what can take them."""
        results = run["results"].items()
        fits = self.several or not any(found and measurement(name).replaces for name, found in results)
        return self.offered and fits

    def unasked(self, info: "DatasetInfo") -> bool:
        """Whether it is measured wherever train and test of a file have labels, without being typed."""
        return False

    def answers(self, row: Row) -> tuple[list[int], list[int]] | None:
        known = isinstance(row.get("predicted"), list) and "labels" in row
        return (row["labels"], row["predicted"]) if known else None

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """Adds to its own `rows` what is no source of features; those of all measurements are there by name."""

    def typed(self, conditions: "Conditions") -> list[str]:
        """What is typed for the same numbers, with all that it is made of."""
        return self.words

    def check(self, conditions: "Conditions") -> None:
        """Refuses what the data cannot give, before anything is computed."""

    def takes(self, opened: "Opened", conditions: "Conditions") -> bool:
        """Whether it can be measured of this encoder or layer; `check` refuses where it is asked of nothing else."""
        return True

    def how(self, conditions: "Conditions") -> str:
        """How the numbers are obtained, in words."""
        return self.about.format(protocol=PROTOCOLS[conditions.protocol], **self.options)

    def protocol(self, conditions: "Conditions") -> str:
        """The protocol as its results say it."""
        return conditions.protocol if self.fits else self.name


def other(conditions: "Conditions", name: str) -> Probe:
    """Another measurement, with what was typed for it, that this one is made of."""
    found = conditions.measurement(name)
    assert isinstance(found, Probe)
    return found


def share(name: str, ends: str | None = None, within: Callable[[Row], Row] = lambda row: row) -> Callable[[Row], Cell]:
    """A column: the share under a name, in %, with the interval under another, of a row or of what is `within` it."""
    return lambda row: percents(within(row).get(name), within(row).get(ends or f"{name}_ci"))


def answer_scores(called: str, row: Row) -> dict[str, Score]:
    """The accuracy of a row of predicted classes, and where there are enough of these top-5 accuracy."""
    found = {called: Score(row["accuracy"], row["ci"])}
    return found | ({f"{called}, top-5": Score(row["top5"], row["top5_ci"])} if "top5" in row else {})


def grades(classes: tuple[str, ...]) -> str:
    """The order that kappa takes classes in."""
    return " < ".join(classes) if len(classes) <= MOST_GRADES else f"the {len(classes)} classes in the file's order"


def by_row(rows: list[Row], value: Callable[[Row], Mapping[str, Any]]) -> list[str]:
    """Every key that some row has, in the order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in value(row)))
