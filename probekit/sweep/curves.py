"""Curves of a sweep: one generator at several values of one of its parameters, and what is read of it over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from generators import GENERATORS
from probekit.checked import checked
from probekit.measurement import CHANCE
from probekit.sweep.datasets import Dataset, Name
from probekit.sweep.measures import FIRST, check_distinct, without_pool

CURVES = "curves.png"  # in the sweep's folder
FEWEST = 2  # values that a curve has
NOTHING: dict[str, Any] = {"value": None, "ci": None, "n": 0}  # not measured yet


@dataclass(frozen=True)
class Curve:
    """What is drawn over a parameter.

    Attributes:
        name: The name of the dataset that is varied.
        generator: What renders it.
        parameter: The name of the generator's parameter.
        score: What is read, checkpoint/score without a pooling.
        levels: The parameter's values, rising, by the datasets' names.
    """

    name: str
    generator: str
    parameter: str
    score: str
    levels: Mapping[str, float]

    @property
    def unit(self) -> str:
        """The parameter's, where it says more than its name."""
        unit = next(p.unit for p in GENERATORS[self.generator].parameters if p.name == self.parameter)
        return "" if unit == self.parameter else unit


@dataclass(frozen=True, kw_only=True)
class Varied(Dataset):
    """A dataset as a sweep file has it, which may be several, one at each value of one parameter of its generator.

    Attributes:
        vary: The parameter and its values.
        score: What the curve over them shows; "" is the linear probe.
    """

    vary: dict[str, tuple[int | float, ...]] = field(default_factory=dict)
    score: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.vary:
            if self.score:
                raise ValueError("expected score with vary, found it alone; leave it out")
            return
        if len(self.vary) > 1:
            raise ValueError(f"expected vary = one parameter with its values, found {', '.join(self.vary)}")
        if self.npz is not None:
            raise ValueError("expected vary without npz, whose images are as they are, found both; leave one out")
        ((parameter, values),) = self.vary.items()
        if len(values) < FEWEST:
            raise ValueError(f"expected vary.{parameter} = a list of {FEWEST} values or more, found {list(values)}")
        check_distinct(sorted(values), f"values of vary.{parameter}")
        if any(setting.partition("=")[0].strip() == parameter for setting in self.settings):
            raise ValueError(f"expected {parameter} in vary or in set, found both; leave one out")
        for dataset in self.datasets:
            checked(dataset.name, Name, "", "the name of each level")
        assert self.generator is not None
        factor = self.score.partition(": ")[2]
        known = GENERATORS[self.generator](size=self.size).class_factors
        if factor and factor not in known:
            raise ValueError(
                f"expected score of a class factor of {self.generator}, {', '.join(known)}, found {factor}"
            )

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """One for each value, NAME-PARAMETER-VALUE, in rising order; itself where nothing varies.

        Raises:
            ValueError: If the generator has no such parameter, or the parameter no such value.
        """
        parts = {name: getattr(self, name) for name in (part.name for part in fields(Dataset))}
        if not self.vary:
            return (Dataset(**parts),)
        ((parameter, values),) = self.vary.items()
        return tuple(
            Dataset(
                **parts
                | {"name": f"{self.name}-{parameter}-{value}", "settings": (*self.settings, f"{parameter}={value}")}
            )
            for value in sorted(values)
        )

    @property
    def curve(self) -> Curve | None:
        """What is drawn over the values, if there are several."""
        if not self.vary:
            return None
        assert self.generator is not None
        ((parameter, values),) = self.vary.items()
        levels = dict(zip((dataset.name for dataset in self.datasets), map(float, sorted(values)), strict=True))
        score, _ = without_pool(self.score or FIRST)
        return Curve(self.name, self.generator, parameter, score, levels)


def collect_curves(
    curves: Sequence[Curve], rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The curves as results.json has them, of its rows and baselines (docs/sweeps.md); none without a line."""
    return [found for curve in curves if (found := _collected(curve, rows, baselines))["lines"]]


def _collected(
    curve: Curve, rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        for name, score in row["scores"].items():
            plain, pool = without_pool(name)
            if row["dataset"] in curve.levels and plain == curve.score:
                label = row["row"] if pool is None else f"{row['row']}@{pool}"
                point = {"value": score["mean"], "ci": score["ci"], "n": score["n"]}
                found.setdefault((label, "row"), {})[row["dataset"]] = point
    for entry in baselines:
        if entry["dataset"] in curve.levels and f"last/{entry['score']}" == curve.score:
            point = {key: entry[key] for key in ("value", "ci", "n")}
            found.setdefault((entry["name"], "baseline"), {})[entry["dataset"]] = point
    by_level = found.pop((CHANCE, "baseline"), {})
    chance, interval = ([by_level.get(name, NOTHING)[key] for name in curve.levels] for key in ("value", "ci"))
    return {
        "name": curve.name,
        "generator": curve.generator,
        "parameter": curve.parameter,
        "unit": curve.unit,
        "score": curve.score,
        "datasets": list(curve.levels),
        "levels": list(curve.levels.values()),
        "chance": chance,
        "chance_ci": interval,
        "lines": [
            {"name": name, "kind": kind, "points": [points.get(dataset, NOTHING) for dataset in curve.levels]}
            for (name, kind), points in found.items()
        ],
    }


def above_chance(curve: Mapping[str, Any], line: Mapping[str, Any]) -> list[float]:
    """The levels of a collected curve at which one of its lines is above chance.

    A baseline where its whole interval, over test images, is above. A row where its whole interval over seeds is, and
    its mean above the interval that chance has over test images; the latter alone where all seeds are alike.
    """
    found = []
    points = zip(curve["levels"], curve["chance"], curve["chance_ci"], line["points"], strict=True)
    for level, chance, spread, point in points:
        row = line["kind"] == "row"
        alike = point["value"] if row and point["n"] > 1 else None
        low = alike if point["ci"] is None else point["ci"][0]
        if chance is None or low is None or low <= chance:
            continue
        if not row or spread is None or point["value"] > spread[1]:
            found.append(level)
    return found
