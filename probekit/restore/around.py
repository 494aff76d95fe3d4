"""A module that was made elsewhere, looked at once and made an encoder."""

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.encoder import Encoder, Features
from probekit.models.outside import in_colour
from probekit.visible import first_line

CLOSE = 1e-4  # relative; how near an embedding is to the mean of its map if it is that mean


def around(
    module: nn.Module, name: str, images: Tensor, normalise: dict[str, list[float]] | None, code: str = ""
) -> Encoder:
    """An encoder around a user's own module, with the weights that it has.

    Where it fails on grey images, and takes them in three channels, it is given these.

    A ValueError if the module fails on the images, or gives something else than it should. `module`: gives `Features`,
    a map `[B, D, h, w]` or an embedding `[B, D]`; `name`: what it is called, "py:MODULE:FUNCTION" where it can be made
    again; `images`: some, `[B, C, H, W]` in [0, 1], to see what the module makes of them; `normalise`: see `Encoder`;
    `code`: the hash of what it is made of, which has to be the same when it is made again.
    """
    module.eval()
    thrice = False
    try:
        out, again = _twice(module, name, images)
    except ValueError:
        if images.shape[1] == 1:
            with suppress(ValueError):  # the first one tells what it was made for
                out, again = _twice(module, name, in_colour(images))
                thrice = True
        if not thrice:
            raise
    pooling, dim, cells = _shape(name, out, len(images))
    first, second = (found.pooled if isinstance(found, Features) else found for found in (out, again))
    same = first.shape == second.shape
    if not same or not torch.allclose(first.float(), second.float(), rtol=CLOSE, atol=CLOSE, equal_nan=True):
        raise ValueError(
            f"expected the same features of the same images from {name}, found others when it was asked again; "
            "is something random left on in eval mode?"
        )
    if not second.isfinite().all():
        raise ValueError(f"expected finite features from {name}, found nan or inf for images {list(images.shape)}")
    stride = math.ceil(images.shape[2] / cells) if cells else 1
    return Encoder(
        channels=images.shape[1],
        pooling=pooling,
        backbone=name,
        normalise=normalise,
        shape=(dim, stride),
        code=code,
        thrice=thrice,
        module=module,
    )


def _twice(module: nn.Module, name: str, images: Tensor) -> tuple[Any, Any]:
    """What a module makes of the same images, asked twice; a ValueError if it fails on them."""
    try:
        with torch.no_grad():
            return module(images), module(images)
    except (Exception, SystemExit) as error:
        found = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{name} fails on images {list(images.shape)} in [0, 1]: {found}") from error


def _shape(name: str, out: Any, n: int) -> tuple[str, int, int]:
    """How a module's output is pooled, its features, and the rows of cells of its map, 0 without one."""
    whole = isinstance(out, Features) and all(isinstance(part, Tensor) for part in (out.map, out.pooled))
    for part in (out.map, out.pooled) if whole else (out,) if isinstance(out, Tensor) else ():
        if part.is_complex() or part.is_meta or part.layout != torch.strided:
            found = f"{part.dtype} on {part.device}, {part.layout}"
            raise ValueError(f"expected real numbers of features from {name}, found {found}")
        if not part.numel():
            raise ValueError(f"expected features of one dimension or more from {name}, found {list(part.shape)}")
    if whole and out.map.ndim == 4 and out.pooled.ndim == 2 and len(out.pooled) == n:
        mean = out.map.float().mean((2, 3))
        plain = mean.shape == out.pooled.shape and torch.allclose(mean, out.pooled.float(), rtol=CLOSE, atol=CLOSE)
        return "gap" if plain else "own", out.pooled.shape[1], out.map.shape[2]
    if isinstance(out, Tensor) and out.ndim in (2, 4) and len(out) == n:
        return ("gap", out.shape[1], out.shape[2]) if out.ndim == 4 else ("own", out.shape[1], 0)
    found = f"a tensor {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise ValueError(f"expected Features, a map [B, D, h, w] or an embedding [B, D] from {name}, found {found}")
