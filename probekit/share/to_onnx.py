"""ONNX of an encoder: an image in [0, 1] to embedding and map, checked against torch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from probekit.files import replaced
from probekit.models.encoder import Encoder
from probekit.restore.opened import OpenedRun
from probekit.share.base import Format, Written, code, refuse_files
from probekit.visible import first_line

NAME = "model.onnx"
CLOSE = 1e-5  # of the largest value: what other orders of sums leave in float32
TRACED, TRIED = 2, 3  # images that it is traced with, and checked with: the batch is free


class _Outputs(nn.Module):
    """Embedding and map as a tuple, which is what a graph has."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`[B, C, H, W]` -> `[B, D]` and, where there is one, `[B, D, h, w]`."""
        found = self.encoder(image)
        return (found.pooled, found.map) if self.encoder.has_map else (found.pooled,)


def write(opened: OpenedRun, folder: Path) -> Written:
    """Writes model.onnx. A ValueError if torch cannot trace the encoder, or onnxruntime gives other numbers."""
    refuse_files(opened)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise ValueError(
            f"expected onnx and onnxruntime for --to onnx, found: {first_line(error)}; "
            "type: pip install onnx onnxruntime onnxscript"
        ) from error
    height, width = opened.header["image_size"]
    shape = (opened.header["spec"]["channels"], height, width)
    outputs = ("embedding", "map") if opened.encoder.has_map else ("embedding",)
    images = torch.rand(TRACED + TRIED, *shape, generator=torch.Generator().manual_seed(0))
    network = _Outputs(opened.encoder).eval()
    with replaced(folder / NAME) as temporary:
        _trace(network, images[:TRACED], outputs, temporary)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        found = session.run(list(outputs), {"image": images[TRACED:].numpy()})
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in network(images[TRACED:])]
        furthest = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))
        if furthest > CLOSE:
            raise ValueError(
                "expected the same numbers from onnxruntime as from torch, found a difference of "
                f"{furthest:.1g} of the largest; type: --to safetensors"
            )
    about = (
        f"image [B, {', '.join(map(str, shape))}] in [0, 1] to {' and '.join(outputs)}; normalisation is in it; "
        f"onnxruntime differs from torch by {furthest:.1g} of the largest value"
    )
    usage = code(
        "python",
        "import numpy as np",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{NAME}")',
        f"images = np.full((4, {', '.join(map(str, shape))}), 0.5, np.float32)  # yours, in [0, 1]",
        f"embedding{', feature_map' * opened.encoder.has_map}{',' * (not opened.encoder.has_map)} = "
        'session.run(None, {"image": images})',
    )
    return Written(NAME, about, f"**ONNX**, or `probekit probe --encoder onnx:{NAME}:embedding`:\n\n{usage}")


def _trace(network: nn.Module, images: Tensor, outputs: tuple[str, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter about itself
        try:
            program = torch.onnx.export(
                network,
                (images,),
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            )
            assert program is not None
            program.save(str(path))
        except Exception as error:  # it has many of its own
            reason = first_line(error.__cause__ or error)
            raise ValueError(
                f"expected an encoder that ONNX can hold, found that torch.onnx cannot write it: {reason}; "
                "type: --to safetensors"
            ) from error


FORMAT = Format(NAME, write)
