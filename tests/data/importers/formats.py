"""Miniatures of the formats that others keep images in, in their true formats, and the table of docs/datasets.md.

`python -m tests.data.importers.formats` prints the table.
"""

import csv
import io
import json
import tarfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]
NAMES = ("cat", "dog", "owl")
N = {"train": 14, "test": 5}


@dataclass
class Mini:
    """A miniature: the source, what is to be typed, what the dataset file must hold, the file that is to be damaged."""

    source: Path
    typed: dict[str, Any]
    images: dict[str, Images]
    classes: tuple[str, ...]
    labels: dict[str, list[int]]
    whole: Path
    factors: dict[str, NDArray[Any]] = field(default_factory=dict)  # of train
    asks: str = ""  # what the refusal says to type where nothing is typed


@dataclass(frozen=True)
class Format:
    """A row of the table; `make`: its miniature in a folder."""

    on_disk: str
    found: str
    reader: str
    make: Callable[[Path], Mini]


def pictures(split: str, shape: tuple[int, ...] = (12, 16, 3)) -> Images:
    """Random images, others in each split."""
    return np.random.default_rng(len(split)).integers(0, 256, (N[split], *shape), dtype=np.uint8)


def numbers(split: str) -> list[int]:
    """Their labels."""
    return [(k * 2 + len(split)) % 3 for k in range(N[split])]


def png(image: Images) -> bytes:
    """The bytes of a PNG file."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def planned(source: Path, whole: Path, classes: tuple[str, ...] = NAMES, **typed: Any) -> Mini:
    """All pictures with their labels."""
    return Mini(source, typed, {s: pictures(s) for s in N}, classes, {s: numbers(s) for s in N}, whole)


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(NAMES), "_type": "ClassLabel"},
    "site": {"dtype": "string", "_type": "Value"},
}


def table(split: str) -> Any:
    """As Hugging Face's `datasets` has them in memory."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    schema = pa.schema([("image", image), ("label", pa.int64()), ("site", pa.string())], metadata=about)
    cells = [{"bytes": png(each), "path": f"{k}.png"} for k, each in enumerate(pictures(split))]
    sites = [f"s{k // 3}" for k in range(N[split])]
    return pa.table({"image": cells, "label": numbers(split), "site": sites}, schema=schema)


def parquet(folder: Path) -> Mini:
    import pyarrow.parquet as pq

    root = folder / "set" / "data"
    root.mkdir(parents=True)
    train = table("train")
    pq.write_table(train.slice(0, 9), root / "train-00000-of-00002.parquet", row_group_size=4)
    pq.write_table(train.slice(9), root / "train-00001-of-00002.parquet")
    pq.write_table(table("test"), root / "test-00000-of-00001-0123456789abcdef.parquet")
    return planned(folder / "set", root / "train-00001-of-00002.parquet")


def arrow(folder: Path) -> Mini:
    import pyarrow as pa

    root = folder / "saved"
    for split in N:
        (root / split).mkdir(parents=True)
        file = root / split / "data-00000-of-00001.arrow"
        rows = table(split)
        with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, rows.schema) as writer:
            for batch in rows.to_batches(max_chunksize=5):
                writer.write_batch(batch)
        (root / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": file.name}]}))
        (root / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(N)}))
    return planned(root, root / "train" / "data-00000-of-00001.arrow")


def imagefolder(folder: Path) -> Mini:
    root = folder / "set"
    for split in N:
        (root / split).mkdir(parents=True)
        rows = []
        order = np.argsort(
            [NAMES[k] for k in numbers(split)], kind="stable"
        )  # as folders are read: by class, then name
        for place, k in enumerate(order):
            Image.fromarray(pictures(split)[k]).save(root / split / f"{place:02}.png")
            rows.append({"file_name": f"{place:02}.png", "label": NAMES[numbers(split)[k]], "site": f"s{k // 3}"})
        if split == "train":
            with (root / split / "metadata.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            (root / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mini = planned(root, root / "train" / "metadata.csv")
    for split in N:
        order = np.argsort([NAMES[k] for k in numbers(split)], kind="stable")
        mini.images[split] = mini.images[split][order]
        mini.labels[split] = [numbers(split)[k] for k in order]
    return mini


def shards(folder: Path) -> Mini:
    import webdataset

    root = folder / "shards"
    root.mkdir(parents=True)
    for split in N:
        with webdataset.ShardWriter(f"{root}/{split}-%06d.tar", maxcount=6, verbose=0) as sink:
            for k, (image, label) in enumerate(zip(pictures(split), numbers(split), strict=True)):
                about = {"site": f"s{k // 3}"}
                sink.write({"__key__": f"{split}/{k:04}", "png": png(image), "cls": label, "json": about})
    return planned(root, root / "train-000001.tar", ("0", "1", "2"))


def hdf5(folder: Path) -> Mini:
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        for split in N:
            first = np.ascontiguousarray(pictures(split).transpose(0, 3, 1, 2))
            file.create_dataset(f"{split}/x", data=first, chunks=(3, *first.shape[1:]), compression="gzip")
            file[f"{split}/y"] = np.array(numbers(split), np.float32)
            file.create_dataset(f"{split}/site", data=[f"s{k // 3}" for k in range(N[split])])
    mini = planned(path, path, ("0", "1", "2"), images="{split}/x", labels="{split}/y")
    mini.asks = "--images '{split}/x' --labels '{split}/y'"
    return mini


def npz(folder: Path) -> Mini:
    path = folder / "a.npz"
    held: dict[str, Any] = {f"{split}_images": pictures(split, (12, 16)) for split in N}
    held |= {f"{split}_labels": np.array(numbers(split), np.uint8)[:, None] for split in N}
    np.savez_compressed(path, **held)
    mini = planned(path, path, ("0", "1", "2"), images="{split}_images", labels="{split}_labels")
    mini.images = {split: held[f"{split}_images"] for split in N}
    mini.asks = "--images '{split}_images' --labels '{split}_labels'"
    return mini


def grid(*values: Any) -> NDArray[np.float64]:
    """Every combination, the last one varying first."""
    return np.stack(np.meshgrid(*values, indexing="ij"), axis=-1).reshape(-1, len(values)).astype(np.float64)


def dsprites(folder: Path) -> Mini:
    path = folder / "dsprites.npz"
    values = grid([1], [1, 2, 3], [0.5, 1.0], [0, np.pi], [0.25], [0, 1])
    images = np.random.default_rng(0).integers(0, 2, (len(values), 16, 16), dtype=np.uint8)
    classes, metadata = values.astype(np.int64), np.array({"title": "dSprites"}, dtype=object)  # pickled, as published
    np.savez_compressed(path, imgs=images, latents_values=values, latents_classes=classes, metadata=metadata)
    factors = {"shape": values[:, 1] - 1, "scale": values[:, 2], "orientation": np.rad2deg(values[:, 3])}
    named = ("square", "ellipse", "heart")
    held = {"train": images * np.uint8(255)}
    return Mini(
        path,
        {"labels": "shape"},
        held,
        named,
        {"train": (values[:, 1] - 1).astype(int).tolist()},
        path,
        factors,
        "--labels shape",
    )


def shapes3d(folder: Path) -> Mini:
    path = folder / "3dshapes.h5"
    values = grid([0, 0.1], [0, 0.9], [0.5], [0.75, 1.25], [0, 1, 2, 3], [-30, 30])
    images = np.random.default_rng(0).integers(0, 256, (len(values), 16, 16, 3), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(7, 16, 16, 3), compression="gzip")
        file["labels"] = values
    factors = {"floor_hue": values[:, 0] * 360, "scale": values[:, 3], "orientation": values[:, 5]}
    named = ("cube", "cylinder", "sphere", "capsule")
    labels = {"train": values[:, 4].astype(int).tolist()}
    return Mini(path, {"labels": "shape"}, {"train": images}, named, labels, path, factors, "--labels shape")


def synbols(folder: Path) -> Mini:
    path = folder / "synbols.h5py"
    images, n = np.concatenate([pictures(s, (16, 16, 3)) for s in N]), sum(N.values())
    letters, rng = [NAMES[k] for s in N for k in numbers(s)], np.random.default_rng(0)
    about = [
        {
            "char": c,
            "is_bold": bool(k % 2),
            "rotation": k / 10,
            "translation": [k / 50, 0.5],
            "seed": k,
            "background": {},
        }
        for k, c in enumerate(letters)
    ]
    order = rng.permutation(n)
    flags = np.zeros((n, 3), bool)
    flags[order[: N["train"]], 0] = flags[order[N["train"] :], 2] = True
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=images, chunks=(4, 16, 16, 3), compression="gzip")
        file["mask"] = np.zeros((n, 16, 16, 1), np.uint8)
        file.create_dataset("y", data=list(map(json.dumps, about)), dtype=h5py.string_dtype("ascii"))
        file["split/random"], file["split/stratified_char"] = flags, flags
    rows = {"train": np.flatnonzero(flags[:, 0]), "test": np.flatnonzero(flags[:, 2])}
    labels = {split: [NAMES.index(letters[k]) for k in own] for split, own in rows.items()}
    factors = {"rotation": rows["train"] / 10, "translation.x": rows["train"] / 50, "is_bold": rows["train"] % 2}
    held = {split: images[own] for split, own in rows.items()}
    return Mini(path, {"labels": "char"}, held, NAMES, labels, path, factors, "--labels char")


FORMATS: dict[str, Format] = {
    "Hugging Face parquet": Format(
        "a folder of `train-00000-of-00002.parquet`, ..., or one file",
        "by the schema (Image, ClassLabel), or `--images`, `--labels`",
        "pyarrow, by row groups",
        parquet,
    ),
    "Hugging Face `save_to_disk`": Format(
        "`dataset_dict.json`, or `state.json` and arrow files", "likewise", "pyarrow, mapped", arrow
    ),
    "Hugging Face imagefolder": Format(
        "images, with `metadata.csv` or `metadata.jsonl`",
        "`file_name`; `label`, or `--labels`",
        "as folders",
        imagefolder,
    ),
    "webdataset": Format(
        "a folder of tar files, one, or `train-{000000..000099}.tar`",
        "endings of images; `cls` or an entry of `json`, or `--labels`",
        "tarfile, at its place",
        shards,
    ),
    "HDF5": Format("any arrays", "`--images KEY --labels KEY`", "h5py, by rows", hdf5),
    "npz": Format("any arrays", "`--images KEY --labels KEY`", "NumPy's format, by rows", npz),
    "dSprites": Format("the authors' npz", "`--labels FACTOR`", "NumPy's format, by rows", dsprites),
    "Shapes3D": Format("the authors' `3dshapes.h5`", "`--labels FACTOR`", "h5py, by rows", shapes3d),
    "Synbols": Format("the authors' HDF5", "`--labels FACTOR`; splits of `split/random`", "h5py, by rows", synbols),
}


def rows() -> str:
    """The list, as it stands in docs/datasets.md."""
    lines: list[str] = []
    for name, each in FORMATS.items():
        text = f"- **{name}**: {each.on_disk}; images and labels: {each.found}; reader: {each.reader}"
        lines += textwrap.wrap(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def repack(path: Path, out: Path, mode: str) -> Path:
    """A tar file, packed."""
    with tarfile.open(path) as held, tarfile.open(out, mode) as packed:  # type: ignore[call-overload]
        for member in held:
            packed.addfile(member, held.extractfile(member))
    return out


if __name__ == "__main__":
    print(rows())
