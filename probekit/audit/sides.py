"""Whether the mirror image of a scene shows another value of a class factor, as its generator's ideal reader sees it.

Views are cropped, resized and mirrored. A crop can lose a value and a resize can blur it, which is told apart from a
change; only the mirror makes an image that shows another value as clearly. That is a question about the scene, and so
it is asked of the whole scene, without noise, blur and colours, where the ideal reader is never wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators import Generator
from probekit.data.truth import Truth

UNSEEN = ("noise_sd", "blur_sd")  # readers are made for images without them
READABLE = 0.95  # of the pairs must be read right, both sides, or nothing is told: frames can be too small


@dataclass(frozen=True)
class Sides:
    """What the mirror does to one class factor: `changed` `[N]` is 1 where its image shows another value, else 0."""

    changed: NDArray[np.float64] | None  # NaN where the reader errs; None where it is not known
    why: str = ""  # why it is not known, or ""


def sides(truth: Truth) -> dict[str, Sides]:
    """By class factor, what the mirror does to each image."""
    assert truth.scenes is not None
    drawn, factors = truth.scenes
    generator = _plain(drawn)
    images = generator.render_images(factors)
    shown = generator.read(images)
    mirrored = generator.read(np.ascontiguousarray(images[:, :, ::-1]))
    found = {}
    for name in generator.class_factors:
        if name not in shown:
            found[name] = Sides(None, f"{generator.name} has no ideal reader of {name}")
            continue
        others = generator.counterfactual(factors, name)
        read = generator.read(generator.render_images(others))[name]
        right = (shown[name] == factors[name]) & (read == others[name])
        if right.mean() < READABLE:
            wrong = f"{(~right).sum()} of {len(right)} pairs of {generator.size} px"
            found[name] = Sides(None, f"the ideal reader errs about {name} in {wrong}")
            continue
        found[name] = Sides(np.where(right, mirrored[name] != shown[name], np.nan))
    return found


def _plain(generator: Generator) -> Generator:
    """The same generator without what readers are not made for."""
    values = {name: 0 if name in UNSEEN else value for name, value in generator.values.items()}
    return type(generator)(size=generator.size, parameters=values)
