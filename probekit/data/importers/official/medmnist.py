"""The twelve 2D sets of MedMNIST, an npz file each and for each size: NAME.npz of 28 px, NAME_64.npz, _128, _224.

Yang et al., "MedMNIST v2 - a large-scale lightweight benchmark for 2D and 3D biomedical image classification",
Scientific Data 2023; names and sizes: medmnist/info.py, version 3.0.2, and 2.1.0 where the sizes were others.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.official.arrays import rows, stream
from probekit.data.importers.official.base import Choices, Listing, Official
from probekit.data.importers.official.streamed import Streamed
from probekit.h5 import SPLITS
from probekit.visible import one_line

SIDES = (28, 64, 128, 224)
DEFAULT = 32  # px, own choice: 28 is no multiple of 8, which networks here need
LARGEST = 64 << 30  # bytes of a file: tissuemnist_224 has 12 GB


def _open(
    name: str,
    classes: tuple[str, ...],
    sizes: Sequence[tuple[int, ...]],
    channels: int,
    several: bool,
    ordinal: bool,
    root: Path,
    choices: Choices,
) -> Listing:
    """The official splits from the file of the size that was asked for, or else the next larger one."""
    path, side = _choose(name, root, choices.size)
    splits = {}
    for split in SPLITS:
        images = Streamed(path, f"{split}_images.npy")
        if images.shape[1:3] != (side, side) or len(images.shape) != (4 if channels == 3 else 3):
            raise ValueError(f"expected images of {side} x {side} in {path}, found shape {list(images.shape)}")
        splits[split] = rows(split, images, _labels(path, split, len(classes) if several else 1), path)
    found = tuple(map(len, splits.values()))
    release = found if found in sizes else sizes[0]
    parameters = {"ordinal": True} if ordinal else {}
    return Listing(
        classes, splits, sizes=dict(zip(SPLITS, release, strict=True)), parameters=parameters, files=[path], side=side
    )


def set_of(path: Path) -> str | None:
    """The set whose file a path is called like; None if it is called otherwise."""
    stem, _, side = path.stem.rpartition("_")
    name = stem if side in map(str, SIDES[1:]) else path.stem
    return name if path.is_file() and path.suffix == ".npz" and name in SETS else None


def _choose(name: str, root: Path, size: int | None) -> tuple[Path, int]:
    """The file to read, and its size: the smallest that need not be enlarged, or else the largest."""
    files = {side: root / (f"{name}.npz" if side == SIDES[0] else f"{name}_{side}.npz") for side in SIDES}
    there = {side: path for side, path in files.items() if path.is_file()}
    if not there:
        raise ValueError(f"expected {name}.npz or {name}_64.npz, _128 or _224 in {root}, found none")
    wanted = SIDES[0] if size in (None, DEFAULT) else size
    side = next((side for side in there if side >= (wanted or 0)), max(there))
    if side != SIDES[0] and size in (None, DEFAULT):
        raise ValueError(
            f"expected {name}.npz, of 28 px, in {root}, found {there[side].name}; "
            f"type: probekit import {name} {quote(str(root))} --size {side}"
        )
    return there[side], side


def _labels(path: Path, split: str, columns: int) -> list[int | bytes]:
    key = f"{split}_labels"
    try:
        with stream(path, LARGEST) as file, np.load(file, allow_pickle=False) as archive:
            labels: NDArray[Any] = archive[key]
    except Exception as error:  # a damaged archive surfaces as whatever zipfile, zlib or NumPy felt first
        raise ValueError(f"cannot read {key} in {path}: {one_line(error)}") from error
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape[1:] != (columns,):
        raise ValueError(f"expected whole numbers [N, {columns}] in {key} of {path}, found something else")
    if columns == 1:
        return [int(label) for label in labels[:, 0]]
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected 0 or 1 in {key} of {path}, found others")
    return [row.tobytes() for row in labels.astype(np.uint8)]


def _set(
    name: str,
    about: str,
    sizes: tuple[int, int, int],
    classes: str,
    *,
    earlier: tuple[int, int, int] | None = None,
    channels: int = 1,
    several: bool = False,
    ordinal: bool = False,
) -> tuple[str, Official]:
    """A set by its name; `classes`: their names, with semicolons; `earlier`: sizes of the release before."""
    names, releases = tuple(classes.split("; ")), [sizes] if earlier is None else [sizes, earlier]
    official = Official(
        about=f"MedMNIST: {about}",
        open=partial(_open, name, names, releases, channels, several, ordinal),
        sizes=dict(zip(SPLITS, sizes, strict=True)),
        classes=len(names),
        needs=f"{name}.npz, or {name}_64.npz, _128, _224 with --size 64, 128, 224",
        takes=frozenset({"train_with_val"}),
        size=DEFAULT,
        channels=channels,
    )
    return name, official


# What is an organ in each of three directions of the same scans.
ORGANS = (
    "bladder; femur-left; femur-right; heart; kidney-left; kidney-right; liver; lung-left; lung-right; pancreas; spleen"
)
SETS: dict[str, Official] = dict(
    (
        _set(
            *("pathmnist", "tissues in colon histology", (89996, 10004, 7180)),
            "adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa; "
            "cancer-associated stroma; colorectal adenocarcinoma epithelium",
            channels=3,
        ),
        _set(
            *("chestmnist", "findings in chest X-rays, several an image", (78468, 11219, 22433)),
            "atelectasis; cardiomegaly; effusion; infiltration; mass; nodule; pneumonia; pneumothorax; "
            "consolidation; edema; emphysema; fibrosis; pleural; hernia",
            several=True,
        ),
        _set(
            *("dermamnist", "pigmented skin lesions", (7007, 1003, 2005)),
            "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign keratosis-like "
            "lesions; dermatofibroma; melanoma; melanocytic nevi; vascular lesions",
            channels=3,
        ),
        _set(
            *("octmnist", "retinal OCT", (97477, 10832, 1000)),
            "choroidal neovascularization; diabetic macular edema; drusen; normal",
        ),
        _set(
            *("pneumoniamnist", "pneumonia in chest X-rays", (4708, 524, 624)),
            "normal; pneumonia",
        ),
        _set(
            *("retinamnist", "grades of diabetic retinopathy", (1080, 120, 400)),
            "0; 1; 2; 3; 4",
            channels=3,
            ordinal=True,
        ),
        _set(
            *("breastmnist", "breast ultrasound", (546, 78, 156)),
            "malignant; normal, benign",
        ),
        _set(
            *("bloodmnist", "blood cells", (11959, 1712, 3421)),
            "basophil; eosinophil; erythroblast; immature granulocytes(myelocytes, metamyelocytes and "
            "promyelocytes); lymphocyte; monocyte; neutrophil; platelet",
            channels=3,
        ),
        _set(
            *("tissuemnist", "kidney cortex cells", (165466, 23640, 47280)),
            "Collecting Duct, Connecting Tubule; Distal Convoluted Tubule; Glomerular endothelial cells; "
            "Interstitial endothelial cells; Leukocytes; Podocytes; Proximal Tubule Segments; Thick Ascending "
            "Limb",
        ),
        _set("organamnist", "organs in axial CT", (34561, 6491, 17778), ORGANS, earlier=(34581, 6491, 17778)),
        _set("organcmnist", "organs in coronal CT", (12975, 2392, 8216), ORGANS, earlier=(13000, 2392, 8268)),
        _set("organsmnist", "organs in sagittal CT", (13932, 2452, 8827), ORGANS, earlier=(13940, 2452, 8829)),
    )
)
