"""A sweep's datasets: where each comes from, and the file of it that a sweep makes or finds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from shlex import join
from typing import Annotated, Any, get_type_hints

from generators import GENERATORS
from probekit.checked import Meta, checked, key_of
from probekit.config import Count
from probekit.data.generate import generate
from probekit.data.importers import OFFICIAL, Choices, Import, Options, Told, compression_for, for_official
from probekit.data.importers.base import MAX_SIZE
from probekit.h5 import DatasetInfo, is_dataset, read_info
from probekit.h5.schema import EVIDENCE
from probekit.registry import check_named
from probekit.settings import parse_overrides
from probekit.sweep.measures import Measure

NAME = "a name of at most 60 letters, digits, '.', '_', '+' and '-'"
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,59}\Z", description=NAME)]  # folders may have it
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]  # as `pretrain --seed`
CANVAS = 128  # px, the papers'

TAKEN = {  # key that says where a dataset comes from: the keys that go with it
    "generator": ("npz", "n", "n_test", "size", "seed", "set", "vary", "score"),
    "npz": ("generator", "n", "n_test", "size", "seed", "set"),
    "file": (),
    "folder": ("size", "seed", "options"),
    "import": ("root", "size", "seed", "options"),
}
ALWAYS = ("name", "pretrain", "measure")
IMPORTED = {
    key: str if Path in getattr(kind, "__args__", ()) else kind
    for owner in (Options, Choices)
    for key, kind in get_type_hints(owner).items()
    if key not in ("size", "seed")
} | {"skip_broken": bool}  # `options`, as `probekit import` has them


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Where a dataset comes from: one of `TAKEN`, with the keys that go with it."""

    name: Name
    npz: str | None = None  # a published file, taken where it is found; else `generator` stands in
    generator: str | None = None  # renders it
    file: str | None = None  # a dataset file, used as it is
    folder: str | None = None  # imported, as `probekit import FOLDER`, with `options`
    official: str | None = field(default=None, metadata={"key": "import"})
    root: str | None = None  # of `official`; without one that needs it it is the file data/NAME.h5
    n: Count | None = None  # None: the generator's own
    n_test: Count | None = None
    size: Count = 0  # pixels a side; 0: the papers' canvas, the official set's own, or as the images are
    seed: Seed = 0  # decides what is rendered, or an import's splits
    settings: tuple[str, ...] = field(default=(), metadata={"key": "set"})
    options: dict[str, Any] = field(default_factory=dict)  # of an import, by the names of `IMPORTED`
    pretrain: tuple[str, ...] = ()  # settings, "a.b=value" each, of every run on it; those of rows win
    measure: dict[str, Any] = field(default_factory=dict)  # as `[measure]`, key by key in place of it

    def __post_init__(self) -> None:
        self._check_keys()
        parse_overrides(self.pretrain)
        if self.npz is not None and Path(self.npz).name != self.npz:
            raise ValueError(f"expected npz = the name of a file, found {self.npz!r}; --published is its folder")
        if self.official is not None:
            self._check_import(self.official)
        elif not self.size and self.file is None and self.folder is None:
            object.__setattr__(self, "size", CANVAS)
        if self.generator is not None:
            check_named("generator", self.generator, GENERATORS)
            GENERATORS[self.generator](size=self.size, parameters=parse_overrides(self.settings))
        _ = self.asked

    def _check_keys(self) -> None:
        given = {key_of(part) for part in fields(self) if getattr(self, part.name)}.difference(ALWAYS)
        first = next((key for key in TAKEN if key in given), None)
        if first is None:
            raise ValueError(f"expected {', '.join(TAKEN)}: one of them, found none")
        for key in sorted(given - {first, *TAKEN[first]}):
            raise ValueError(f"expected {first} with {', '.join((*ALWAYS, *TAKEN[first]))}, found {key}; leave it out")

    def _check_import(self, official: str) -> None:
        check_named("official dataset", official, OFFICIAL)
        if not self.size:
            object.__setattr__(self, "size", OFFICIAL[official].size)
        if self.size > MAX_SIZE:
            raise ValueError(f"expected size of at most {MAX_SIZE}, found {self.size}")
        if self.root is not None and not OFFICIAL[official].needs:
            raise ValueError(f"expected no root for {official}, which comes with probekit, found one; leave it out")

    @property
    def asked(self) -> tuple[Options, Choices]:
        """What `options` ask of an import, else the dataset's own default; a ValueError if it takes no such option."""
        typed = {}
        for key, value in self.options.items():
            check_named("option", key, IMPORTED)
            typed[key] = checked(value, IMPORTED[key], "", f"options.{key}")
            typed[key] = Path(value) if IMPORTED[key] is str else typed[key]
        parts: dict[str, Any] = typed | {"seed": self.seed, "size": self.size or None}
        given, chosen = ({f.name: parts[f.name] for f in fields(k) if f.name in parts} for k in (Options, Choices))
        options, official = Options(**given), OFFICIAL.get(self.official or "")
        return options if official is None else for_official(official, options), Choices(**chosen)

    @property
    def typed(self) -> str:
        """What is typed after `probekit import` to make an official set's file where a sweep looks for it."""
        assert self.official is not None
        words = [self.official, "ROOT"]
        for key, value in self.options.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [] if value is False else [f"--{key.replace('_', '-')}", *([] if value is True else [text])]
        words += ["--size", str(self.size)] if self.size != OFFICIAL[self.official].size else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--out", f"data/{self.name}.h5"] if self.name != self.official else []
        return join(words)


@dataclass(frozen=True)
class Data:
    """A dataset file of a sweep."""

    path: str
    hash: str  # of its content
    origin: str  # in words, what it holds
    n_train: int
    n_test: int
    evidence: bool  # whether it has masks of evidence


def find(dataset: Dataset, published: Path | None, data: Path) -> Path | None:
    """What a dataset is made of: an npz file, or the file that is used as it is; None where neither is needed.

    `published`: where the user says that published npz files lie; a missing file is then a mistake. None is `data`,
    where the files of official sets are, too. A ValueError if it is missing, or there is no generator to stand in.
    """
    if (path := kept(dataset, data)) is not None:
        if is_dataset(path):
            return path
        if dataset.official is None:
            raise ValueError(f"expected the file of dataset {dataset.name} at {path}, found none; give another as file")
        needs = OFFICIAL[dataset.official].needs
        raise ValueError(
            f"expected {path}, the file of dataset {dataset.name}, found none; "
            f"type, with the folder that has {needs} as ROOT: probekit import {dataset.typed}"
        )
    if dataset.npz is None:
        return None
    path = (published or data) / dataset.npz
    if path.is_file():
        return path
    if published is not None or dataset.generator is None:
        raise ValueError(f"expected {dataset.npz} in {path.parent}, found none; type: --published FOLDER")
    return None


def kept(dataset: Dataset, data: Path) -> Path | None:
    """The file that a sweep uses as it is, and neither writes nor removes; None: it makes its own."""
    if dataset.file is not None:
        return Path(dataset.file).expanduser()
    alone = dataset.official is None or dataset.root is not None or not OFFICIAL[dataset.official].needs
    return None if alone else data / f"{dataset.name}.h5"


def build(dataset: Dataset, found: Path | None, out: Path) -> DatasetInfo:
    """Imports or renders the dataset file `out`, which does not exist yet; or reads the one that was found."""
    if found is not None and dataset.npz is None:
        info = read_info(found)
        if dataset.official is not None:
            _check_official(dataset, info)
        return info
    options, choices = dataset.asked
    more: dict[str, Any] = {"out": out, "overwrite": False, "told": Told(lambda done, total: None)}
    more["skip_broken"] = bool(dataset.options.get("skip_broken"))
    if dataset.official is not None:
        root = None if dataset.root is None else Path(dataset.root).expanduser()
        how = compression_for(options)
        return Import(options, compression=how, **more).of_official(dataset.official, root, choices)[0]
    if found is not None or dataset.folder is not None:
        source = found or Path(dataset.folder or "").expanduser()
        return Import(Options() if found else options, compression="gzip", **more).of(source)[0]
    assert dataset.generator is not None
    return generate(
        dataset.generator,
        out=out,
        n=dataset.n,
        n_test=dataset.n_test,
        seed=dataset.seed,
        size=dataset.size,
        parameters=parse_overrides(dataset.settings),
    )


def _check_official(dataset: Dataset, info: DatasetInfo) -> None:
    """Refuses a file of another set, or one that other choices made."""
    _, choices = dataset.asked
    wanted: dict[str, Any] = {"source": dataset.official, "size": dataset.size}
    defaults = OFFICIAL[dataset.official or ""].defaults
    typed = {key: value or defaults.get(key) for key, value in asdict(choices).items()}
    wanted |= {key: value for key, value in typed.items() if key not in ("seed", "classes", "size")}
    for key, value in wanted.items():
        found = info.parameters.get(key) or None
        if found != value:
            raise ValueError(
                f"expected {info.path} with {key} {value}, found {found}; "
                f"type: probekit import {dataset.typed} --overwrite, or give the file as file"
            )


def describe(dataset: Dataset, found: Path | None, info: DatasetInfo, path: Path, measure: Measure) -> Data:
    """What sweep.json and the table say of a dataset file; a ValueError if it lacks labels, or images to train on."""
    splits: Mapping[str, Any] = info.splits
    for split in ("train", *measure.needs):
        if split not in splits or (split in measure.needs and not splits[split].labelled):
            labelled = ", ".join(name for name, kept in splits.items() if kept.labelled) or "none"
            raise ValueError(f"expected labels of {split} in dataset {dataset.name}, found {labelled} with labels")
    n_test = splits["test"].n if "test" in splits else 0
    return Data(str(path), info.content_hash, _origin(dataset, found), splits["train"].n, n_test, has_evidence(info))


def has_evidence(info: DatasetInfo) -> bool:
    """Whether it has masks of what decides a class factor."""
    return any(name.startswith(EVIDENCE) for name in info.mask_names)


def _origin(dataset: Dataset, found: Path | None) -> str:
    if found is not None:
        return f"published: {found.name}" if dataset.npz is not None else f"file: {found}"
    if dataset.generator is not None:
        settings = "".join(f", {setting}" for setting in dataset.settings)
        return f"rendered: {dataset.generator}, seed {dataset.seed}{settings}"
    size = f", {dataset.size} px" if dataset.size else ""
    return f"imported: {dataset.official or dataset.folder}{size}, seed {dataset.seed}"
