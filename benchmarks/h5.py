"""The dataset file against h5py with its defaults and against npz: writing, reading a split, reading single images.

    python -m benchmarks.h5 [--n 8192] [--rounds 5] [--out FILE]

All write the same images, uint8 [N, 128, 128] of generator rect-tri, and their labels, on one thread, into the page
cache (nothing is flushed to the disk).

- ours: `probekit.h5`, gzip, chunks of 64 images, with checksums; read with all its checks.
- h5py: `create_dataset(data=..., compression="gzip")`: chunks as h5py guesses them, level 4.
- npz: `numpy.savez_compressed`.

What the checks cost is measured apart, as the CPU time of reading a split with them over that without: as gzip of
shapes and of photographs (random crops of scikit-image's own), uncompressed, and as JPEG.

Single images are read one by one in random order from the open file, with plain h5py; from npz that cannot be done, so
the whole array is read. `probekit` itself reads a split once and indexes it in memory.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import skimage.data
from numpy.typing import NDArray

from benchmarks.report import RESULTS, interleaved, spread, write
from generators import GENERATORS
from probekit.h5 import DatasetWriter, EncodedBlock, Header, Split, encode, pack, read_split

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
CLASSES = ("0", "1", "2", "3")
PACKED = 1024  # images packed at a time, as `gen` does
SINGLE = 128  # images read one by one
PHOTOGRAPHS = 2048  # crops in the file of photographs


def draw(n: int) -> tuple[Images, Labels]:
    """Images and labels of rect-tri."""
    generator = GENERATORS["rect-tri"]()
    parts = [generator.sample(0, "train", np.arange(i, min(i + 1024, n))) for i in range(0, n, 1024)]
    images = np.concatenate([generator.render(factors).images for factors in parts])
    return images, np.concatenate([generator.labels(factors) for factors in parts])


def crop_photographs() -> Images:
    """Crops of photographs, uint8 `[PHOTOGRAPHS, 128, 128, 3]`."""
    rng = np.random.default_rng(0)
    gallery: Any = skimage.data
    whole: list[Images] = [gallery.astronaut(), gallery.coffee(), gallery.chelsea()]
    photographs = [whole[k % len(whole)] for k in range(PHOTOGRAPHS)]
    corners = [rng.integers(0, np.array(photograph.shape[:2]) - 128) for photograph in photographs]
    return np.stack([p[y : y + 128, x : x + 128] for p, (y, x) in zip(photographs, corners, strict=True)])


def write_ours(path: Path, images: Images, labels: Labels, kind: str = "gzip") -> None:
    """As `probekit gen` and `import` write, without factors and masks; kind: gzip, none or jpeg."""
    names: dict[str, Any] = {"classes": CLASSES, "factors": [], "mask_names": []}
    header = Header(generator="", parameters={}, seed=0, **names)
    compression = "none" if kind == "jpeg" else kind
    with DatasetWriter(path, header=header, compression=compression, overwrite=True) as writer:
        writer.begin("train", len(images))
        for start in range(0, len(images), PACKED):
            rows = slice(start, start + PACKED)
            if kind == "jpeg":
                files = [encode(image) for image in images[rows]]
                writer.append(EncodedBlock(images.shape[1:], files, {"labels": labels[rows]}))
            else:
                writer.append(pack(Split(images[rows], labels[rows], {}, None), compression))


def write_h5py(path: Path, images: Images, labels: Labels) -> None:
    """Nothing chosen by hand."""
    with h5py.File(path, "w") as file:
        file.create_dataset("train/images", data=images, compression="gzip")
        file.create_dataset("train/labels", data=labels)


def write_npz(path: Path, images: Images, labels: Labels) -> None:
    """NumPy's archive."""
    np.savez_compressed(path, images=images, labels=labels)


def read_h5py(path: Path) -> Images:
    """All images."""
    with h5py.File(path) as file:
        images: Images = file["train/images"][:]
    return images


def read_npz(path: Path) -> Images:
    """All images."""
    with np.load(path) as file:
        images: Images = file["images"]
    return images


def read_singles(path: Path, order: NDArray[np.int64]) -> Images:
    """Images one by one from an open file."""
    with h5py.File(path) as file:
        data = file["train/images"]
        return np.stack([data[i] for i in order])


def read_checked(path: Path) -> Images:
    """All images, as probekit reads them."""
    return read_split(path, "train").images


def read_unchecked(path: Path) -> Images:
    """All images, by the same reader, which then looks at no checksum; the seal is looked at once for both."""
    with ExitStack() as stack:
        for name in ("checksums.check", "encoded.check"):
            stack.enter_context(patch(f"probekit.h5.{name}", lambda *args: None))
        return read_split(path, "train").images


def measure_checks(shapes: Images, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """CPU seconds of reading a split with its checks over those without, by what is read."""
    photographs, ratios = crop_photographs(), {}
    kinds = [("shapes, gzip", shapes, "gzip"), ("shapes, uncompressed", shapes, "none")]
    kinds += [(f"photographs, {name}", photographs, name) for name in ("gzip", "jpeg")]
    for name, images, kind in kinds:
        path = folder / f"checked-{name}.h5"
        write_ours(path, images, np.zeros(len(images), np.int64), kind)
        jobs = {"checked": partial(read_checked, path), "unchecked": partial(read_unchecked, path)}
        assert np.array_equal(jobs["checked"](), jobs["unchecked"]())
        times = interleaved(jobs, rounds=rounds, clock=time.process_time)
        ratios[name] = spread([c / u for c, u in zip(times["checked"], times["unchecked"], strict=True)])
        cost = ratios[name]
        print(
            f"checks, {name}: {cost['median']:.3f} ({cost['min']:.3f} to {cost['max']:.3f}) times the CPU time without"
        )
    return ratios


def measure(n: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Images per second of each path, its time over ours, and bytes per image."""
    images, labels = draw(n)
    order = np.random.default_rng(0).integers(0, n, SINGLE)
    ours, plain, npz = (folder / name for name in ("ours.h5", "plain.h5", "plain.npz"))
    tasks: dict[str, tuple[int, dict[str, Callable[[], Any]]]] = {
        "write": (
            n,
            {
                "ours": lambda: write_ours(ours, images, labels),
                "h5py": lambda: write_h5py(plain, images, labels),
                "npz": lambda: write_npz(npz, images, labels),
            },
        ),
        "read a split": (
            n,
            {
                "ours": partial(read_checked, ours),
                "h5py": lambda: read_h5py(plain),
                "npz": lambda: read_npz(npz),
            },
        ),
        "read single images": (
            SINGLE,
            {
                "ours": lambda: read_singles(ours, order),
                "ours, split in memory": lambda: read_split(ours, "train").images[order],
                "h5py": lambda: read_singles(plain, order),
                "npz": lambda: read_npz(npz)[order],
            },
        ),
    }
    result: dict[str, Any] = {"n": n}
    for task, (count, jobs) in tasks.items():
        times = interleaved(jobs, rounds=rounds)
        if task != "write":
            expected = images if task == "read a split" else images[order]
            assert all(np.array_equal(job(), expected) for job in jobs.values())
        result[task] = {
            "images_per_second": {name: spread([count / t for t in ts]) for name, ts in times.items()},
            "ratio": {
                name: spread([t / o for t, o in zip(ts, times["ours"], strict=True)]) for name, ts in times.items()
            },
        }
        for name, speed in result[task]["images_per_second"].items():
            ratio = result[task]["ratio"][name]
            print(
                f"{task}, {name}: {speed['median']:.0f} images/s, takes {ratio['median']:.2f} "
                f"({ratio['min']:.2f} to {ratio['max']:.2f}) times as long as ours"
            )
    result["bytes_per_image"] = {
        name: path.stat().st_size / n for name, path in (("ours", ours), ("h5py", plain), ("npz", npz))
    }
    result["checked over unchecked"] = measure_checks(images, rounds, folder)
    print("bytes per image: " + ", ".join(f"{name} {size:.0f}" for name, size in result["bytes_per_image"].items()))
    return result


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "h5.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(arguments.out, measure(arguments.n, arguments.rounds, Path(folder)))


if __name__ == "__main__":
    main()
