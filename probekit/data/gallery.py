"""Pairs of images that differ in one class factor: in the picture of a file, and one of each generator."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generators import GENERATORS, Generator
from generators.certificates import shipped, told
from probekit.data.grid import Pixels, cell, compose
from probekit.h5 import DatasetInfo, read_images

LISTED = 3  # pairs of each class factor in the picture of all generators


def pair_rows(info: DatasetInfo, split: str, columns: int) -> list[tuple[str, list[Pixels]]]:
    """For each class factor its name and pairs of the file's first images: an image, its counterfactual, and so on.

    None of files that no generator drew, or whose images it does not draw any more.
    """
    kind = GENERATORS.get(info.generator)
    n = min(columns // 2, info.splits[split].n)
    if kind is None or not n:
        return []
    try:
        generator = kind(size=info.first.height, parameters=info.parameters)
    except ValueError:  # settings that it does not take any more
        return []
    rows = _pairs(generator, info.seed, split, n)
    drawn = next(iter(rows.values()))[::2]
    if not np.array_equal(drawn, read_images(info.path, split, range(n)).images):
        return []
    return [(f"pairs: {name}", [cell(image) for image in images]) for name, images in rows.items()]


def draw_generators(out: Path) -> Path:
    """Draws pairs of every class factor of every generator, with what its certificate says.

    A ValueError if `out` is no picture that may be replaced; an OSError if it cannot be written.
    """
    rows: dict[str, list[Pixels]] = {}
    for kind in GENERATORS.values():
        for name, images in _pairs(kind(), 0, "train", LISTED).items():
            rows[f"{kind.name}\n{name}\n{verdict(kind, name)}"] = [cell(image) for image in images]
    title = "image | counterfactual, which differs in one class factor alone"
    compose(out, list(rows.values()), list(rows), title=title, legend={}, columns=2 * LISTED)
    return out


def verdict(kind: type[Generator], factor: str) -> str:
    """What the certificate of a class factor says in a word, or that there is none."""
    certificate = shipped(kind())
    if certificate is None:
        return "no certificate"
    found = certificate["factors"][factor]
    return found["verdict"] if found["r"] is None else f"{found['verdict']}, {found['r']} px"


def certified(kind: type[Generator]) -> list[str]:
    """The sentences of a generator's certificate, or that there is none."""
    certificate = shipped(kind())
    return ["no certificate"] if certificate is None else told(certificate)


def _pairs(generator: Generator, seed: int, split: str, n: int) -> dict[str, NDArray[np.uint8]]:
    """By class factor: images `[2 n, H, W]`, each before its counterfactual."""
    factors = generator.sample(seed, split, np.arange(n))
    images = generator.render_images(factors)
    found = {}
    for name in generator.class_factors:
        others = generator.render_images(generator.counterfactual(factors, name))
        found[name] = np.stack((images, others), axis=1).reshape(-1, *images.shape[1:])
    return found
