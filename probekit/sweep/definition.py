"""A sweep file, TOML, read and checked: what to train on what, the paper's numbers, what to compare, what to vary.

The shipped ones lie in `presets/sweeps/`; CONTRIBUTING.md has the recipe for a new one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

from generators import GENERATORS
from probekit.checked import Meta, checked
from probekit.config import Count
from probekit.files import parse_toml, read_text
from probekit.registry import METHODS, branch_named, check_named, nearest
from probekit.settings import parse_overrides
from probekit.sweep.datasets import Dataset, Name, Seed
from probekit.sweep.figures import Figure
from probekit.sweep.measures import FIRST, SCORES, Measure, check_distinct, read_measure, split_pooled, without_pool

Seeds = Annotated[tuple[Seed, ...], Meta(min_length=1)]
CURVES = "curves.png"  # in the sweep's folder
FEWEST, MOST = 2, 100  # values that a curve has


@dataclass(frozen=True)
class Curve:
    """What is drawn over a parameter."""

    name: str  # of the dataset that is varied
    generator: str
    parameter: str  # of the generator
    score: str  # what is read, checkpoint/score without a pooling
    levels: Mapping[str, float]  # the parameter's values, rising, by the datasets' names

    @property
    def unit(self) -> str:
        """The parameter's, where it says more than its name."""
        unit = next(p.unit for p in GENERATORS[self.generator].parameters if p.name == self.parameter)
        return "" if unit == self.parameter else unit


@dataclass(frozen=True, kw_only=True)
class Varied(Dataset):
    """A dataset as a sweep file has it, which may be several, one at each value of one parameter of its generator."""

    vary: dict[str, tuple[int | float, ...]] = field(default_factory=dict)  # the parameter and its values
    score: str = ""  # what the curve over them shows; "" is the linear probe

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
        if not FEWEST <= len(values) <= MOST:
            found = list(values) if len(values) < FEWEST else len(values)
            raise ValueError(f"expected vary.{parameter} = a list of {FEWEST} to {MOST} values, found {found}")
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
        """One for each value, NAME-PARAMETER-VALUE, in rising order; itself where nothing varies."""
        parts = {part.name: getattr(self, part.name) for part in fields(Dataset)}
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method with overrides, "a.b=value" each, and branches."""

    method: str
    name: Name = ""
    settings: tuple[str, ...] = field(default=(), metadata={"key": "set"})
    branches: tuple[str, ...] = field(default=(), metadata={"key": "branch"})

    def __post_init__(self) -> None:
        check_named("method", self.method, METHODS)
        if not self.name:
            object.__setattr__(self, "name", self.method)
        check_distinct([branch_named(branch)[0] for branch in self.branches], "branches")
        parse_overrides(self.settings)


@dataclass(frozen=True, kw_only=True)
class Cross:
    """Every one of some methods with every one of some overrides, by the suffix of the rows' names."""

    methods: Annotated[tuple[str, ...], Meta(min_length=1)]
    overrides: Annotated[dict[str, tuple[str, ...]], Meta(min_length=1)]

    def rows(self) -> list[dict[str, Any]]:
        """The rows, as a file would have them."""
        return [
            {"method": method, "name": f"{method}-{suffix}" if suffix else method, "set": settings}
            for method in self.methods
            for suffix, settings in self.overrides.items()
        ]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Published numbers by dataset and row, or ROW@POOL; `score` is the one that they stand beside."""

    source: str
    score: str
    percent: dict[str, dict[str, Annotated[float, Meta(ge=0, le=100)]]]

    def shares(self, dataset: str) -> dict[str, float]:
        """Those of a dataset as shares of 1."""
        return {row: value / 100 for row, value in self.percent.get(dataset, {}).items()}

    @property
    def number(self) -> str:
        """The score's name without checkpoint and pooling."""
        return self.score.partition("/")[2]


@dataclass(frozen=True, kw_only=True)
class File:
    """What a sweep file may have; see `parse`."""

    seeds: Seeds
    datasets: Annotated[tuple[Varied, ...], Meta(min_length=1)]
    rows: tuple[Row, ...] = ()
    cross: Cross | None = None
    preset: str | None = None
    settings: tuple[str, ...] = field(default=(), metadata={"key": "set"})
    measure: dict[str, Any] = field(default_factory=dict)
    paper: tuple[Paper, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    gpus: Count = 1  # of each run
    nodes: Count = 1  # which these are spread over evenly

    def __post_init__(self) -> None:
        if bool(self.rows) == bool(self.cross):
            raise ValueError(f"expected either rows or cross, found {'both' if self.rows else 'neither'}")
        if self.gpus % self.nodes:
            raise ValueError(f"expected gpus that nodes divides, found gpus = {self.gpus}, nodes = {self.nodes}")
        parse_overrides(self.settings)


@dataclass(frozen=True)
class Sweep:
    """A sweep file's contents, of a dataset that is varied one for each value."""

    name: str
    about: str
    preset: str | None
    seeds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    rows: tuple[Row, ...]
    papers: tuple[Paper, ...]
    pairs: tuple[tuple[str, str], ...]  # (a, b) whose difference is wanted, each a row or ROW@POOL
    measures: Mapping[str, Measure]  # by dataset
    curves: tuple[Curve, ...] = ()
    gpus: int = 1  # of each run, over so many machines
    nodes: int = 1
    figures: tuple[Figure, ...] = ()


def shipped() -> dict[str, str]:
    """Every shipped sweep's name and what it is for."""
    return {f.name.removesuffix(".toml"): _about(f.read_text()) for f in _shipped_files()}


def load(source: str) -> Sweep:
    """Reads a shipped sweep by its name, or a file by its path; a ValueError if there is none, or as of `parse`."""
    if source.endswith(".toml"):
        path = Path(source)
        if not path.is_file():
            raise ValueError(f"expected a sweep file {source}, found none; shipped: {', '.join(shipped())}")
        return parse(path.stem, read_text(path), where=source)
    files = {f.name.removesuffix(".toml"): f for f in _shipped_files()}
    check_named("sweep", source, files, "; or name a .toml file by its path")
    return parse(source, files[source].read_text(), where=source)


def describe(name: str) -> dict[str, Any]:
    """A shipped sweep in short, as `probekit list --json` has it."""
    sweep = load(name)
    return {
        "name": name,
        "about": sweep.about,
        "datasets": [dataset.name for dataset in sweep.datasets],
        "rows": [row.name for row in sweep.rows],
        "seeds": list(sweep.seeds),
        "runs": len(sweep.datasets) * len(sweep.rows) * len(sweep.seeds),
    }


def parse(name: str, text: str, *, where: str) -> Sweep:
    """Checks a sweep file's text, TOML, its first line a comment that says what the sweep is for; docs/sweeps.md."""
    file: File = checked(parse_toml(text, where), File, where)
    checked(name, Name, where, "name")
    check_seeds(file.seeds, where)
    rows: tuple[Row, ...] = checked(file.cross.rows(), tuple[Row, ...], where, "cross") if file.cross else file.rows
    datasets = tuple(dataset for varied in file.datasets for dataset in varied.datasets)
    curves = tuple(curve for varied in file.datasets if (curve := varied.curve))
    for kind, names in (("datasets", [d.name for d in datasets]), ("rows", [row.name for row in rows])):
        check_distinct(names, f"{kind} in {where}")
    shown = [curve.score.partition("/")[2] for curve in curves]
    also = tuple(dict.fromkeys([*(paper.number for paper in file.paper), *shown]))
    measures = {}
    for dataset in datasets:
        place = f"[measure] of {'dataset ' + dataset.name + ' of ' if dataset.measure else ''}{where}"
        measures[dataset.name] = replace(read_measure(file.measure | dataset.measure, place), also=also)
    sweep = Sweep(
        name,
        _about(text),
        file.preset,
        file.seeds,
        datasets,
        rows,
        file.paper,
        file.pairs,
        measures,
        curves,
        file.gpus,
        file.nodes,
        file.figures,
    )
    _check_names(sweep, where)
    return with_settings(sweep, file.settings)


def with_settings(sweep: Sweep, settings: Sequence[str]) -> Sweep:
    """The sweep with settings for every row; a row's own win; a ValueError if one is not of the form NAME=VALUE."""
    parse_overrides(settings)
    return replace(sweep, rows=tuple(replace(row, settings=(*settings, *row.settings)) for row in sweep.rows))


def check_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    """Seeds as a tuple; a ValueError if there are none, or one is no whole number below 2^32, or twice there."""
    found: tuple[int, ...] = checked(seeds, Seeds, where, "seeds")
    check_distinct(found, f"seeds in {where}")
    return found


def _check_names(sweep: Sweep, where: str) -> None:
    """Refuses pairs and numbers of papers for what the sweep does not have."""
    pools = {pool for measure in sweep.measures.values() for pool in measure.pools}
    for first, second in sweep.pairs:
        if first == second:
            raise ValueError(f"expected pairs of two different rows in {where}, found {first} twice")
        for side in (first, second):
            _check_side(side, sweep, pools, f"pairs of {where}")
    for number, paper in enumerate(sweep.papers):
        place = f"paper[{number}] of {where}"
        for dataset, percent in paper.percent.items():
            check_named("dataset", dataset, sweep.measures, f" (in {place})")
            _check_score(paper.score, sweep.measures[dataset], f"dataset {dataset} in {place}")
            for side in percent:
                _check_side(side, sweep, sweep.measures[dataset].pools, place)
    check_distinct([figure.name for figure in sweep.figures], f"figures in {where}")
    check_distinct([figure.file(name) for figure in sweep.figures for name in sweep.measures], f"pictures in {where}")
    for figure in sweep.figures:
        for row in figure.rows:
            _check_side(row, sweep, (), f"figure {figure.name} of {where}")
    for curve in sweep.curves:
        _check_score(curve.score, sweep.measures[next(iter(curve.levels))], f"dataset {curve.name} in {where}")


def _check_side(side: str, sweep: Sweep, pools: Collection[str], where: str) -> None:
    row, pool = split_pooled(side)
    rows = [row.name for row in sweep.rows]
    check_named("row", row, rows, f" (in {where})")
    if pool is not None and pool not in pools:
        raise ValueError(f"expected {side} under one of the pools of [measure] in {where}, found {pool}")


def _check_score(score: str, measure: Measure, where: str) -> None:
    """Refuses a score that nothing measures, by its name."""
    plain, pool = without_pool(score)
    own = [FIRST, *(each for each in SCORES if each != FIRST)] if measure.linear else [*SCORES][1:]
    measured = plain.startswith("last/") and any(each.measures(plain.partition("/")[2]) for each in measure.every)
    if (plain in own and pool is None) or (measured and pool in (None, *measure.pools)):
        return
    named = [f"last/{name}" for each in measure.every for name in each.named()]
    raise ValueError(f"{nearest('score', score, [*own, *named])} (of {where})")


def _about(text: str) -> str:
    first = (text.splitlines() or [""])[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _shipped_files() -> list[Traversable]:
    folder = resources.files("probekit") / "presets" / "sweeps"
    return sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: Path(f.name).stem)
