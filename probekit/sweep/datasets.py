"""A sweep's own dataset files: the published npz where it is found, else what the generator renders; or an import."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from probekit.data.generate import generate
from probekit.data.importers import OFFICIAL, Choices, Options, Told, import_dataset, import_official
from probekit.data.importers.official import MAX_GB
from probekit.h5 import DatasetInfo
from probekit.h5.schema import EVIDENCE
from probekit.settings import parse_overrides
from probekit.sweep.definition import Dataset


@dataclass(frozen=True)
class Data:
    """A dataset file of a sweep.

    `origin`: in words, what it holds; `hash`: of its content; `evidence`: whether it has masks of evidence.
    """

    path: str
    hash: str
    origin: str
    n_train: int
    n_test: int
    evidence: bool

    def to_dict(self) -> dict[str, Any]:
        """As sweep.json keeps it."""
        return asdict(self)


def find_published(dataset: Dataset, folder: Path, *, named: bool) -> Path | None:
    """The dataset's npz file in `folder`, or None where the generator is to stand in.

    Args:
        dataset: As the sweep file has it.
        folder: Where the published files lie.
        named: Whether the user named the folder; then a missing file is a mistake.

    Raises:
        ValueError: If the file is missing and named, or there is no generator to stand in.
    """
    if dataset.npz is None:
        return None
    path = folder / dataset.npz
    if path.is_file():
        return path
    if named or dataset.generator is None:
        raise ValueError(f"expected {dataset.npz} in {folder}, found none; type: --published FOLDER")
    return None


def build(dataset: Dataset, published: Path | None, out: Path) -> DatasetInfo:
    """Imports or renders the dataset file `out`, which does not exist yet.

    Raises:
        ValueError: If the npz file or a setting of the generator is not as expected.
    """
    if published is not None:
        info, _ = import_dataset(
            published,
            Options(),
            out=out,
            skip_broken=False,
            overwrite=False,
            compression="gzip",
            told=Told(lambda done, total: None),
        )
        return info
    if dataset.official is not None:
        return _import(dataset, out)
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


def _import(dataset: Dataset, out: Path) -> DatasetInfo:
    assert dataset.official is not None
    official = OFFICIAL[dataset.official]
    options = Options(
        size=dataset.size,
        val_fraction=0.0,
        test_fraction=official.test_fraction,
        seed=dataset.seed,
        resize=official.resize,
        max_gb=MAX_GB,
    )
    info, _ = import_official(
        dataset.official,
        None,
        Choices(seed=dataset.seed),
        options,
        out=out,
        skip_broken=False,
        overwrite=False,
        compression="none",  # as `probekit import`
        told=Told(lambda done, total: None),
    )
    return info


def describe(dataset: Dataset, published: Path | None, info: DatasetInfo, path: Path) -> Data:
    """What sweep.json and the table say of a dataset file.

    Raises:
        ValueError: If it has no labelled test split, without which nothing can be scored.
    """
    if "test" not in info.splits or not info.splits["test"].labelled or not info.splits["train"].labelled:
        raise ValueError(f"expected labelled train and test splits for dataset {dataset.name}, found others")
    if published is not None:
        origin = f"published: {published.name}"
    elif dataset.official is not None:
        origin = f"imported: {dataset.official}, {dataset.size} px, seed {dataset.seed}"
    else:
        settings = "".join(f", {setting}" for setting in dataset.settings)
        origin = f"rendered: {dataset.generator}, seed {dataset.seed}{settings}"
    evidence = any(name.startswith(EVIDENCE) for name in info.mask_names)
    return Data(str(path), info.content_hash, origin, info.splits["train"].n, info.splits["test"].n, evidence)
