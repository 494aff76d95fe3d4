"""A resnet under detectron2's names: a file that its configuration names as MODEL.WEIGHTS."""

import pickle
from pathlib import Path

import torch

from probekit.files import replaced_file
from probekit.models.layout import Layout
from probekit.models.layouts import DETECTRON2
from probekit.models.weights import reshaped
from probekit.restore.opened import Opened
from probekit.share.base import Format, Written, code, named_network, spread, without_pooling

NAME = "detectron2.pkl"
DEPTHS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
BASIC = 34  # the deepest of two convolutions a block, whose first stage is narrow
CHANNELS = 3
STEM = "stem.conv1.weight"


def write(opened: Opened, folder: Path) -> Written:
    """Writes the tensors as detectron2's own tool does; a ValueError for what is no resnet of torchvision's kind."""
    name, state = named_network(opened, "detectron2", DEPTHS)
    tensors = Layout("detectron2", name, DETECTRON2).renamed(state)
    stem, _ = reshaped(tensors[STEM], torch.empty(tensors[STEM].shape[0], CHANNELS, *tensors[STEM].shape[2:]))
    assert stem is not None
    arrays = {
        key: tensor.detach().numpy()
        for key, tensor in {**tensors, STEM: stem.contiguous()}.items()
        if not key.endswith("num_batches_tracked")  # its frozen norms have none
    }
    content = {"model": arrays, "__author__": "probekit", "matching_heuristics": True}
    with replaced_file(folder / NAME) as file:
        pickle.dump(content, file)
    spec = opened.header["spec"]
    grey = "; its one channel is spread over three, so images are to be grey ones in RGB" * (spec["channels"] == 1)
    resized = "" if opened.encoder.input is None else f"; images were {opened.encoder.input} before it"
    about = f"{len(arrays)} tensors of detectron2's ResNet-{DEPTHS[name]}, without heads{grey}{resized}"
    return Written(NAME, f"{about}{without_pooling(opened)}", _usage(opened, DEPTHS[name]))


def _usage(opened: Opened, depth: int) -> str:
    """The keys of a configuration; detectron2 takes images from 0 to 255."""
    values = opened.header["spec"].get("normalise") or {"mean": [0.0], "std": [1.0]}
    mean, std = ([round(255 * value, 6) for value in spread(values[key], CHANNELS)] for key in ("mean", "std"))
    lines = [
        "MODEL:",
        f'  WEIGHTS: "{NAME}"',
        f"  PIXEL_MEAN: {mean}",
        f"  PIXEL_STD: {std}",
        "  RESNETS:",
        f"    DEPTH: {depth}",
        "    STRIDE_IN_1X1: False",
        *(["    RES2_OUT_CHANNELS: 64"] if depth <= BASIC else []),
        "INPUT:",
        '  FORMAT: "RGB"',
    ]
    return f"**detectron2**, in its configuration:\n\n{code('yaml', *lines)}"


FORMAT = Format(NAME, write)
