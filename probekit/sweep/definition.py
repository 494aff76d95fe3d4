"""A sweep file, TOML, read and checked: what to train on what, the paper's numbers, what to compare.

The shipped ones lie in `presets/sweeps/`; CONTRIBUTING.md has the recipe for a new one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from generators import GENERATORS
from probekit.data.importers import OFFICIAL
from probekit.data.importers.base import MAX_SIZE
from probekit.files import parse_toml, read_text
from probekit.registry import METHODS, branch_named, nearest
from probekit.settings import parse_overrides
from probekit.sweep.measures import Measure, read_measure, split_pooled
from probekit.sweep.scores import SCORES
from probekit.sweep.toml import Table, check_distinct, shorten

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")  # what folders may be called
MAX_SEED = 2**32 - 1  # as `pretrain --seed`


@dataclass(frozen=True)
class Dataset:
    """Where a dataset comes from: `npz` where that file is found, else `generator` with the rest; or `official`.

    `n`, `n_test` None: the generator's own. `official`: one of `OFFICIAL` that needs no folder.
    """

    name: str
    npz: str | None
    generator: str | None
    n: int | None
    n_test: int | None
    size: int
    seed: int
    settings: tuple[str, ...]
    official: str | None = None


@dataclass(frozen=True)
class Row:
    """A method with overrides, "a.b=value" each, and branches."""

    name: str
    method: str
    settings: tuple[str, ...]
    branches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """Published accuracies in [0, 1], by dataset and row; `score` is the one of `SCORES` that they stand beside."""

    source: str
    score: str
    accuracy: Mapping[str, Mapping[str, float]]


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
    content = Table(parse_toml(text, where), where)
    check_name(name, where)
    seeds = check_seeds(content.take("seeds", list), where)
    preset = content.take("preset", str, None)
    common = _settings(content)
    datasets = tuple(_dataset(table) for table in content.tables("datasets"))
    rows = tuple(_rows(content, common))
    for kind, entries in (("datasets", datasets), ("rows", rows)):
        check_distinct([entry.name for entry in entries], f"{kind} in {where}")
    names = ([d.name for d in datasets], [r.name for r in rows])
    paper = _paper(content.table("paper"), *names) if "paper" in content.content else None
    measure = read_measure(content.table("measure")) if "measure" in content.content else Measure()
    pairs = tuple(_pair(pair, names[1], measure.pools, where) for pair in content.take("pairs", list, []))
    content.done()
    return Sweep(name, _about(text), preset, seeds, datasets, rows, paper, pairs, measure)


def with_settings(sweep: Sweep, settings: Sequence[str]) -> Sweep:
    """The sweep with settings for every row; a row's own win.

    Raises:
        ValueError: If one is not of the form NAME=VALUE.
    """
    parse_overrides(settings)
    return replace(sweep, rows=tuple(replace(row, settings=(*settings, *row.settings)) for row in sweep.rows))


def check_seeds(seeds: Sequence[Any], where: str) -> tuple[int, ...]:
    """Seeds as a tuple.

    Raises:
        ValueError: If there are none, or one is no whole number from 0 to 2^32 - 1 or stands twice.
    """
    if not seeds or any(type(seed) is not int or not 0 <= seed <= MAX_SEED for seed in seeds):
        raise ValueError(f"expected seeds, whole numbers from 0 to {MAX_SEED}, in {where}, found {shorten(seeds)}")
    check_distinct(seeds, f"seeds in {where}")
    return tuple(seeds)


def check_name(name: str, where: str) -> str:
    """A name that folders may have.

    Raises:
        ValueError: If it may not.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"expected a name of at most 60 letters, digits, '.', '_', '+' and '-' in {where}, found {shorten(name)}"
        )
    return name


def _dataset(table: Table) -> Dataset:
    if "import" in table.content:
        return _imported(table)
    npz, generator = table.take("npz", str, None), table.take("generator", str, None)
    if npz is None and generator is None:
        raise ValueError(f"expected npz, generator or import in {table.where}, found none")
    if npz is not None and Path(npz).name != npz:
        raise ValueError(
            f"expected npz = the name of a file in {table.where}, found {npz!r}; --published is its folder"
        )
    if generator is not None and generator not in GENERATORS:
        raise ValueError(f"{nearest('generator', generator, GENERATORS)} (in {table.where})")
    found = Dataset(
        name=check_name(table.take("name", str), table.where),
        npz=npz,
        generator=generator,
        n=table.take("n", int, None),
        n_test=table.take("n_test", int, None),
        size=table.take("size", int, 128),  # px, the papers' canvas
        seed=table.take("seed", int, 0),
        settings=_settings(table),
    )
    table.done()
    for key, least in {"n": 1, "n_test": 1, "seed": 0}.items():  # as `probekit gen`
        value = getattr(found, key)
        if value is not None and value < least:
            raise ValueError(f"expected {key} at least {least} in {table.where}, found {value}")
    if generator is not None:
        try:
            GENERATORS[generator](size=found.size, parameters=parse_overrides(found.settings))
        except ValueError as error:
            raise ValueError(f"{error} (in {table.where})") from error
    return found


def _imported(table: Table) -> Dataset:
    official = table.take("import", str)
    alone = [name for name, entry in OFFICIAL.items() if not entry.needs]
    if official not in alone:
        raise ValueError(f"{nearest('dataset that needs no folder', official, alone)} (in {table.where})")
    found = Dataset(
        name=check_name(table.take("name", str), table.where),
        npz=None,
        generator=None,
        n=None,
        n_test=None,
        size=table.take("size", int, OFFICIAL[official].size),
        seed=table.take("seed", int, 0),  # of the test split
        settings=(),
        official=official,
    )
    table.done()
    if not 1 <= found.size <= MAX_SIZE:
        raise ValueError(f"expected size from 1 to {MAX_SIZE} in {table.where}, found {found.size}")
    return found


def _rows(content: Table, common: tuple[str, ...]) -> Iterable[Row]:
    if "cross" in content.content:
        if "rows" in content.content:
            raise ValueError(f"expected either rows or cross in {content.where}, found both")
        yield from _cross(content.table("cross"), common)
        return
    for table in content.tables("rows"):
        method = _method(table.take("method", str), table.where)
        name = check_name(table.take("name", str, method), table.where)
        branches = table.strings("branch")
        try:
            attached = [branch_named(branch)[0] for branch in branches]
        except ValueError as error:
            raise ValueError(f"{error} (in {table.where})") from error
        check_distinct(attached, f"branches in {table.where}")
        yield Row(name, method, common + _settings(table), branches)
        table.done()


def _cross(table: Table, common: tuple[str, ...]) -> Iterable[Row]:
    methods = [_method(name, table.where) for name in table.strings("methods")]
    overrides = table.table("overrides")
    chosen = {suffix: overrides.strings(suffix) for suffix in overrides.content}
    if not methods or not chosen:
        raise ValueError(f"expected methods and overrides in {table.where}, found none")
    table.done()
    for method in methods:
        for suffix, settings in chosen.items():
            _parsed(settings, overrides.where)
            name = f"{method}-{suffix}" if suffix else method
            yield Row(check_name(name, overrides.where), method, common + settings)


def _paper(table: Table, datasets: Sequence[str], rows: Sequence[str]) -> Paper:
    source, score = table.take("source", str), table.take("score", str)
    if score not in SCORES:
        raise ValueError(f"{nearest('score', score, SCORES)} (in {table.where})")
    accuracy: dict[str, dict[str, float]] = {}
    percent = table.table("percent")
    for dataset in percent.content:
        if dataset not in datasets:
            raise ValueError(f"{nearest('dataset', dataset, datasets)} (in {percent.where})")
        accuracy[dataset] = {}
        for row, value in percent.take(dataset, dict).items():
            if row not in rows:
                raise ValueError(f"{nearest('row', row, rows)} (in {percent.where})")
            if type(value) not in (int, float) or not 0 <= value <= 100:
                raise ValueError(f"expected {row} = a percentage in {percent.where}, found {shorten(value)}")
            accuracy[dataset][row] = value / 100
    table.done()
    return Paper(source, score, accuracy)


def _pair(pair: Any, rows: Sequence[str], pools: Sequence[str], where: str) -> tuple[str, str]:
    if type(pair) is not list or len(pair) != 2 or any(type(row) is not str for row in pair) or pair[0] == pair[1]:
        raise ValueError(f"expected pairs of two different rows in {where}, found {shorten(pair)}")
    for row, pool in map(split_pooled, pair):
        if row not in rows:
            raise ValueError(f"{nearest('row', row, rows)} (in pairs of {where})")
        if pool is not None and pool not in pools:
            raise ValueError(f"expected pairs under pools of [measure] in {where}, found {row}@{pool}")
    return pair[0], pair[1]


def _settings(table: Table) -> tuple[str, ...]:
    return _parsed(table.strings("set"), table.where)


def _parsed(settings: tuple[str, ...], where: str) -> tuple[str, ...]:
    try:
        parse_overrides(settings)
    except ValueError as error:
        raise ValueError(f"{error} (in {where})") from error
    return settings


def _method(name: str, where: str) -> str:
    if name not in METHODS:
        raise ValueError(f"{nearest('method', name, METHODS)} (in {where})")
    return name


def _about(text: str) -> str:
    first = (text.splitlines() or [""])[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def _shipped_files() -> list[Traversable]:
    folder = resources.files("probekit") / "presets" / "sweeps"
    return sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: Path(f.name).stem)
