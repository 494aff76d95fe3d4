"""A sweep file, TOML, read and checked: what to train on what, the paper's numbers, what to compare.

The shipped ones lie in `presets/sweeps/`; CONTRIBUTING.md has the recipe for a new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from generators import GENERATORS
from probekit.checked import checked
from probekit.config import Count
from probekit.data.importers import OFFICIAL
from probekit.data.importers.base import MAX_SIZE
from probekit.files import parse_toml, read_text
from probekit.registry import METHODS, branch_named, nearest
from probekit.settings import parse_overrides
from probekit.sweep.measures import Measure, read_measure, split_pooled
from probekit.sweep.scores import SCORES
from probekit.sweep.toml import Table, check_distinct

NAME = "a name of at most 60 letters, digits, '.', '_', '+' and '-'"
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,59}\Z", description=NAME)]  # folders may have it
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]  # as `pretrain --seed`
Seeds = Annotated[tuple[Seed, ...], Meta(min_length=1)]
CANVAS = 128  # px, the papers'


class Dataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a dataset comes from: `npz` where that file is found, else `generator` with the rest; or `official`.

    `n`, `n_test` None: the generator's own. `official`: one of `OFFICIAL` that needs no folder.
    """

    name: Name
    npz: str | None = None
    generator: str | None = None
    official: str | None = field(default=None, name="import")
    n: Count | None = None
    n_test: Count | None = None
    size: Count = 0  # the papers' canvas, or the official set's own
    seed: Seed = 0  # of an import: of its test split
    settings: tuple[str, ...] = field(default=(), name="set")

    def __post_init__(self) -> None:
        if not self.size:
            size = OFFICIAL[self.official].size if self.official in OFFICIAL else CANVAS
            msgspec.structs.force_setattr(self, "size", size)
        if self.official is not None:
            self._check_import(self.official)
        elif self.npz is None and self.generator is None:
            raise ValueError("expected npz, generator or import, found none")
        if self.npz is not None and Path(self.npz).name != self.npz:
            raise ValueError(f"expected npz = the name of a file, found {self.npz!r}; --published is its folder")
        if self.generator is not None:
            if self.generator not in GENERATORS:
                raise ValueError(nearest("generator", self.generator, GENERATORS))
            GENERATORS[self.generator](size=self.size, parameters=parse_overrides(self.settings))

    def _check_import(self, official: str) -> None:
        alone = [name for name, entry in OFFICIAL.items() if not entry.needs]
        if official not in alone:
            raise ValueError(nearest("dataset that needs no folder", official, alone))
        if self.size > MAX_SIZE:
            raise ValueError(f"expected size of at most {MAX_SIZE}, found {self.size}")
        for name in ("npz", "generator", "n", "n_test", "settings"):
            if getattr(self, name):
                raise ValueError(f"expected import with name, size and seed alone, found {name}; leave it out")


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A method with overrides, "a.b=value" each, and branches."""

    method: str
    name: Name = ""
    settings: tuple[str, ...] = field(default=(), name="set")
    branches: tuple[str, ...] = field(default=(), name="branch")

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(nearest("method", self.method, METHODS))
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.method)
        check_distinct([branch_named(branch)[0] for branch in self.branches], "branches")
        parse_overrides(self.settings)


class Cross(Struct, frozen=True, forbid_unknown_fields=True):
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


class Paper(Struct, frozen=True, forbid_unknown_fields=True):
    """Published accuracies, by dataset and row; `score` is the one of `SCORES` that they stand beside."""

    source: str
    score: str
    percent: dict[str, dict[str, Annotated[float, Meta(ge=0, le=100)]]]

    @property
    def accuracy(self) -> Mapping[str, Mapping[str, float]]:
        """The same in [0, 1]."""
        return {name: {row: value / 100 for row, value in rows.items()} for name, rows in self.percent.items()}


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """What a sweep file may have; see `parse`."""

    seeds: Seeds
    datasets: Annotated[tuple[Dataset, ...], Meta(min_length=1)]
    rows: tuple[Row, ...] = ()
    cross: Cross | None = None
    preset: str | None = None
    settings: tuple[str, ...] = field(default=(), name="set")
    measure: dict[str, Any] = {}
    paper: Paper | None = None
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if bool(self.rows) == bool(self.cross):
            raise ValueError(f"expected either rows or cross, found {'both' if self.rows else 'neither'}")
        parse_overrides(self.settings)


@dataclass(frozen=True)
class Sweep:
    """A sweep file's contents.

    `pairs`: (a, b) whose difference a - b is wanted, each a row or ROW@POOL.
    """

    name: str
    about: str
    preset: str | None
    seeds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    rows: tuple[Row, ...]
    paper: Paper | None
    pairs: tuple[tuple[str, str], ...]
    measure: Measure


def shipped() -> dict[str, str]:
    """Every shipped sweep's name and what it is for."""
    return {f.name.removesuffix(".toml"): _about(f.read_text()) for f in _shipped_files()}


def load(source: str) -> Sweep:
    """Reads a shipped sweep by its name, or a file by its path.

    Raises:
        ValueError: If there is none, or it is not as described in `parse`.
    """
    if source.endswith(".toml"):
        path = Path(source)
        if not path.is_file():
            raise ValueError(f"expected a sweep file {source}, found none; shipped: {', '.join(shipped())}")
        return parse(path.stem, read_text(path), where=source)
    files = {f.name.removesuffix(".toml"): f for f in _shipped_files()}
    if source not in files:
        raise ValueError(f"{nearest('sweep', source, files)}; or name a .toml file by its path")
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
    """Checks a sweep file's text.

    Args:
        name: What the sweep is called.
        text: TOML, its first line a comment that says what the sweep is for. Keys: `seeds`; `datasets`, a list of
            tables (`Dataset`, with `set` for its settings and `import` for `official`); `rows`, a list of tables
            (`method`, `name`, `branch`, `set`), or `cross`, with `methods` and `overrides` (a suffix: a list of
            settings), every method with every entry; `preset`, `set` (for every row), `measure` (`retrieval`, `pools`,
            `heatmap`), `paper` (`source`, `score`, `percent`), `pairs`.
        where: Named in messages.

    Raises:
        ValueError: One line: what was expected where, and what was found.
    """
    file: File = checked(parse_toml(text, where), File, where)
    checked(name, Name, where, "name")
    check_seeds(file.seeds, where)
    rows: tuple[Row, ...] = checked(file.cross.rows(), tuple[Row, ...], where, "cross") if file.cross else file.rows
    for kind, names in (("datasets", [d.name for d in file.datasets]), ("rows", [row.name for row in rows])):
        check_distinct(names, f"{kind} in {where}")
    measure = read_measure(Table(file.measure, f"[measure] of {where}"))
    sweep = Sweep(name, _about(text), file.preset, file.seeds, file.datasets, rows, file.paper, file.pairs, measure)
    _check_names(sweep, where)
    return with_settings(sweep, file.settings)


def with_settings(sweep: Sweep, settings: Sequence[str]) -> Sweep:
    """The sweep with settings for every row; a row's own win.

    Raises:
        ValueError: If one is not of the form NAME=VALUE.
    """
    parse_overrides(settings)
    return replace(
        sweep, rows=tuple(msgspec.structs.replace(row, settings=(*settings, *row.settings)) for row in sweep.rows)
    )


def check_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    """Seeds as a tuple.

    Raises:
        ValueError: If there are none, or one is no whole number from 0 to 2^32 - 1 or stands twice.
    """
    found: tuple[int, ...] = checked(seeds, Seeds, where, "seeds")
    check_distinct(found, f"seeds in {where}")
    return found


def _check_names(sweep: Sweep, where: str) -> None:
    """Refuses pairs and numbers of a paper for what the sweep does not have."""
    datasets, rows = [dataset.name for dataset in sweep.datasets], [row.name for row in sweep.rows]
    for first, second in sweep.pairs:
        if first == second:
            raise ValueError(f"expected pairs of two different rows in {where}, found {first} twice")
        for row, pool in (split_pooled(first), split_pooled(second)):
            if row not in rows:
                raise ValueError(f"{nearest('row', row, rows)} (in pairs of {where})")
            if pool is not None and pool not in sweep.measure.pools:
                raise ValueError(f"expected pairs under pools of [measure] in {where}, found {row}@{pool}")
    if sweep.paper is None:
        return
    if sweep.paper.score not in SCORES:
        raise ValueError(f"{nearest('score', sweep.paper.score, SCORES)} (in [paper] of {where})")
    for dataset, percent in sweep.paper.percent.items():
        if dataset not in datasets:
            raise ValueError(f"{nearest('dataset', dataset, datasets)} (in [paper] of {where})")
        for row in percent:
            if row not in rows:
                raise ValueError(f"{nearest('row', row, rows)} (in [paper] of {where})")


def _about(text: str) -> str:
    first = (text.splitlines() or [""])[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _shipped_files() -> list[Traversable]:
    folder = resources.files("probekit") / "presets" / "sweeps"
    return sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: Path(f.name).stem)
