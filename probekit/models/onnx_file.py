"""A file of ONNX as a module, run by onnxruntime on the CPU: "onnx:FILE" or "onnx:FILE:OUTPUT"."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.files import sha256
from probekit.registry import nearest
from probekit.visible import first_line, some

FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
FOLDER = "session.model_external_initializers_file_folder_path"  # onnxruntime's name of it
MATRIX = 2  # dimensions from which an initialiser is weights; below are offsets, scales and sizes


class OnnxModule(nn.Module):
    """One output of a file's graph. `[B, C, H, W] -> [B, ...]`; nothing in it has a gradient.

    `drawn` is 0 for the file's own weights. Any other number is the seed by which the values within each initialiser of
    two dimensions or more are shuffled: what there is of random weights. It is a buffer, so that it is kept and put
    back as weights are. A ValueError if the file is no such model, or has no such output.
    """

    gradients = False

    def __init__(self, name: str, drawn: int = 0) -> None:
        super().__init__()
        self.name = name
        self.path, self.output = split_name(name, "onnx")
        self.drawn: Tensor
        self.register_buffer("drawn", torch.tensor(drawn))
        self._session: Any = None
        self._of = -1
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        """Copies open the file anew: a session cannot be copied."""
        return {**self.__dict__, "_session": None, "_of": -1}

    @property
    def batch(self) -> int | None:
        """How many images the file takes at once, or None for any number."""
        first = self._session.get_inputs()[0].shape[0]
        return first if isinstance(first, int) else None

    @property
    def channels(self) -> int | None:
        """How many channels the file was made for; None where it takes any."""
        found = self._session.get_inputs()[0].shape[1]
        return found if isinstance(found, int) else None

    def check(self, images: Tensor) -> None:
        """Refuses images `[B, C, H, W]` of other channels or sizes than the file was made for."""
        shape = self._session.get_inputs()[0].shape
        for part, wanted, found in zip(("channels", "rows", "columns"), shape[1:], images.shape[1:], strict=True):
            if isinstance(wanted, int) and wanted != found:
                size = "x".join(str(side) for side in shape[2:])
                remedy = f"; type: probekit import SOURCE --size {shape[2]}" if part != "channels" else ""
                raise ValueError(
                    f"expected images of {shape[1]} channels and {size} px, as {self.name} takes them, found "
                    f"{images.shape[1]} channels and {images.shape[2]}x{images.shape[3]} px{remedy}"
                )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The output, float32; a file of a fixed batch is asked as often as it takes, the last time with repeats."""
        self._open()
        self.check(x)
        taken = self._session.get_inputs()[0]
        images: NDArray[Any] = np.ascontiguousarray(x.cpu().numpy(), dtype=FLOATS[taken.type])
        parts = []
        for part, count in _batches(images, self.batch):
            (given,) = self._session.run([self.output], {taken.name: part})
            if not isinstance(given, np.ndarray) or given.ndim == 0:
                raise ValueError(f"expected an array of features from {self.name}, found {type(given).__name__}")
            parts.append(given[:count])
        return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(x.device)

    def _open(self) -> None:
        """Makes the session, unless there is one of these weights."""
        seed = int(self.drawn)
        if self._session is None or self._of != seed:
            self._session, self.output = _session(self.name, self.path, self.output, seed)
            self._of = seed


def split_name(name: str, kind: str) -> tuple[Path, str]:
    """`"onnx:FILE:OUTPUT" -> (FILE, OUTPUT)`, "" for none; either may have a colon.

    A ValueError if there is no such file.
    """
    rest = name.removeprefix(f"{kind}:")
    cuts = [len(rest), *(at for at, letter in enumerate(rest) if letter == ":")]
    for at in cuts:
        if (path := Path(rest[:at])).is_file():
            return path, rest[at + 1 :]
    found = "a folder" if Path(rest).is_dir() else "nothing"
    raise ValueError(f"expected a file after {kind}:, found {found} at {rest}; type: --encoder {kind}:FILE")


def onnx_code(name: str) -> str:
    """The SHA-256 of a file and of the data that it keeps in others, hex; "" if one is gone."""
    try:
        path, _ = split_name(name, "onnx")
    except ValueError:
        return ""
    try:
        others = [path.parent / other for other in _others(_read(name, path))]
    except ValueError:  # what is no model any more has another hash, too
        others = []
    if not all(other.is_file() for other in others):
        return ""
    return hashlib.sha256("".join(map(sha256, (path, *others))).encode()).hexdigest()


def remade(name: str, code: str) -> nn.Module:
    """The module with shuffled weights, as `probekit.models.outside.REMADE` wants it."""
    refuse_changed(name, code, onnx_code(name))
    return OnnxModule(name, int(torch.randint(1, 2**31, ())))


def refuse_changed(name: str, code: str, found: str) -> None:
    """Refuses a file that is another than the one that an encoder was made of; both are hashes, "" for no file."""
    if found != code:
        what = "has changed since the run was made" if found else "is not where it was"
        raise ValueError(f"{name} {what}; type: probekit probe --encoder {quote(name)} --data FILE")


def _read(name: str, path: Path) -> Any:
    """The graph without the data that are in other files."""
    onnx, _ = _packages(name)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own
        raise ValueError(f"expected a model of ONNX in {path}, found none: {first_line(error)}") from error
    if not model.graph.node:
        raise ValueError(f"expected a model of ONNX in {path}, found a graph of no operator")
    return model


def _others(model: Any) -> list[str]:
    """The names of the files that hold data of a graph."""
    found = {
        entry.value: None for data in model.graph.initializer for entry in data.external_data if entry.key == "location"
    }
    for name in found:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"expected the data of a model beside it, found them in {name}")
    return list(found)


def _session(name: str, path: Path, output: str, seed: int) -> tuple[Any, str]:
    """A session of a file, and which of its outputs is read."""
    onnx, runtime = _packages(name)
    model = _read(name, path)
    for other in _others(model):
        if not (path.parent / other).is_file():
            raise ValueError(f"expected the data of {path} in {path.parent / other}, found nothing there")
    output = _chosen(name, model, output)
    if output not in [found.name for found in model.graph.output]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    if seed:
        onnx.load_external_data_for_model(model, str(path.parent))
        _shuffle(onnx, model.graph.initializer, np.random.default_rng(seed))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said in one line, not in its log
    options.add_session_config_entry(FOLDER, str(path.parent.resolve()))
    try:
        session = runtime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ValueError(f"expected a model that onnxruntime runs in {path}, found: {first_line(error)}") from error
    _check_input(name, session.get_inputs())
    return session, output


def _check_input(name: str, taken: Sequence[Any]) -> None:
    found = ", ".join(f"{each.type} {list(each.shape)}" for each in taken)
    if len(taken) != 1 or taken[0].type not in FLOATS or len(taken[0].shape) != 4:
        raise ValueError(f"expected one input of real numbers [B, C, H, W] of {name}, found {found or 'none'}")
    if isinstance(taken[0].shape[3], int) and taken[0].shape[3] in (1, 3):
        raise ValueError(f"expected an input [B, C, H, W] of {name}, found {found}, whose channels are last")


def _chosen(name: str, model: Any, output: str) -> str:
    """The output that is asked for: any tensor's name, or the only output of the graph."""
    own: list[str] = [found.name for found in model.graph.output]
    if not output:
        if len(own) == 1:
            return own[0]
        typed = quote(f"{name}:{own[0]}")
        raise ValueError(f"expected a named output of {name}, which has {some(own)}; type: --encoder {typed}")
    inner = [tensor for node in model.graph.node for tensor in node.output if tensor]
    if output not in inner:
        raise ValueError(nearest(f"output of {name.removesuffix(f':{output}')}", output, inner))
    return output


def _shuffle(onnx: Any, data: Sequence[Any], rng: np.random.Generator) -> None:
    for each in data:
        values = onnx.numpy_helper.to_array(each)
        if values.ndim >= MATRIX and values.dtype.kind == "f":
            shuffled = rng.permutation(values.ravel()).reshape(values.shape)
            each.CopyFrom(onnx.numpy_helper.from_array(shuffled, each.name))


def _batches(images: NDArray[Any], size: int | None) -> Iterator[tuple[NDArray[Any], int]]:
    """Parts of this size, the last filled up with its last image, and how many of each count."""
    if size is None:
        yield images, len(images)
        return
    for first in range(0, len(images), size):
        part = images[first : first + size]
        yield np.concatenate([part, *[part[-1:]] * (size - len(part))]), len(part)


def _packages(name: str) -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"expected onnx and onnxruntime for {name}, found: {first_line(error)}; type: pip install onnx onnxruntime"
        ) from error
    return onnx, onnxruntime
