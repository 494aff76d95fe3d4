"""Encoders that come from a user's own Python module: "py:MODULE:FUNCTION"."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from probekit.models.backbones import import_module
from probekit.models.onnx_file import remade
from probekit.models.torchscript import same_script
from probekit.visible import first_line, some

INSTALLED = {"site-packages", "dist-packages"}  # folders of others' code, which may lie below the working directory


class OutsideBackbone(nn.Module):
    """A user's own module.

    Its `forward` takes images `[B, C, H, W]` in [0, 1] and gives `probekit.models.Features`, a map `[B, D, h, w]` or an
    embedding `[B, D]`. `shape`: (D, px a cell) of its map, as `probekit.restore.around` found it. `thrice`: whether it
    takes three channels, and is given the one of grey images in each.
    """

    def __init__(self, module: nn.Module, shape: Sequence[int], *, thrice: bool = False) -> None:
        super().__init__()
        self.module, self.thrice = module, thrice
        dim, stride = shape
        self.widths, self.strides = [int(dim)], [int(stride)]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The module's children by name, and what it holds itself."""
        own = dict(self.module.named_parameters(recurse=False))
        return {**({"own": nn.ParameterDict(own)} if own else {}), **dict(self.module.named_children())}

    def forward(self, x: Tensor) -> Any:
        """What the module gives."""
        return self.module(in_colour(x) if self.thrice else x)


def in_colour(grey: Tensor) -> Tensor:
    """`[B, 1, H, W] -> [B, 3, H, W]`, the same in each channel."""
    return grey.expand(-1, 3, -1, -1)


def made_again(name: str, code: str) -> nn.Module:
    """The module of a backbone that is no network of ours, with random weights where it can have them.

    `name`, `code`: as an encoder's spec keeps them. A ValueError if it cannot be made, or what it is made of has
    changed.
    """
    return REMADE[name.partition(":")[0]](name, code)


def is_module(name: str) -> bool:
    """Whether a backbone is a module from elsewhere, by its name."""
    return name.partition(":")[0] in REMADE


def _drawn(name: str, code: str) -> nn.Module:
    """What FUNCTION() of "py:MODULE:FUNCTION" returns, with weights drawn anew (`draw_anew`).

    `name`: "py:MODULE:FUNCTION"; `code`: `code_of` when the encoder was made: other code would be another encoder. A
    ValueError if the name is of another form, the import fails, no module comes back, or the file has changed.
    """
    if (found := code_of(name)) != code:  # before a line of it runs
        what = "has changed since the run was made" if found else "is not where Python looks for it"
        raise ValueError(f"{name} {what}; type: probekit probe --encoder {quote(name)} --data FILE")
    drawn = torch.get_rng_state()
    module = make_outside(name)
    torch.set_rng_state(drawn)  # the function may have set a seed of its own
    draw_anew(module)
    return module


@torch.no_grad()
def draw_anew(module: nn.Module) -> None:
    """Initialises layers anew that can be, and shuffles the values of other parameters: "random weights" are random."""
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
        if callable(reset) and not inspect.signature(reset).parameters:
            reset()
            continue
        for tensor in layer.parameters(recurse=False):
            tensor.copy_(tensor.flatten()[torch.randperm(tensor.numel()).to(tensor.device)].view_as(tensor))


def _scripted(name: str, code: str) -> nn.Module:
    module = same_script(name, code)
    draw_anew(module)
    return module


# How a module is made again from its name and the hash of what it is made of, one row a kind.
REMADE: dict[str, Callable[[str, str], nn.Module]] = {"py": _drawn, "onnx": remade, "torchscript": _scripted}


def code_of(name: str) -> str:
    """The SHA-256 of the code of MODULE, hex, without importing any; "" where there is none.

    It is that of the module's file, of the packages that it is in, and of what these import from below the working
    directory.
    """
    _look_here()
    files: dict[Path, bytes] = {}
    found = _follow(_split(name)[0], files, named=True)
    return hashlib.sha256(b"".join(files.values())).hexdigest() if found and files else ""


def _follow(module: str, files: dict[Path, bytes], *, named: bool) -> bool:
    """Adds the files of a module; whether there is such a one. Those elsewhere only if it is the one that was named."""
    where: Sequence[str] | None = None  # sys.path
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), where)
        if spec is None:
            return False
        where = spec.submodule_search_locations or []
        path = Path(spec.origin or "")
        here = path.is_relative_to(Path.cwd()) and not INSTALLED & set(path.parts)
        if spec.has_location and (here or named) and path not in files:
            files[path] = path.read_bytes()
            if here and path.suffix == ".py":
                package = parts[: end - (path.name != "__init__.py")]
                for imported in _imports(files[path], package):
                    _follow(imported, files, named=False)
    return True


def _imports(code: bytes, package: list[str]) -> Iterator[str]:
    """Names of what may be modules in the imports of a module in a package."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):  # importing it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], node.module] if node.level else [node.module]
            whole = ".".join(filter(None, base))
            yield from filter(None, (whole, *(f"{whole}.{alias.name}".lstrip(".") for alias in node.names)))


def make_outside(name: str) -> nn.Module:
    """Imports MODULE from the working directory or wherever Python looks, and calls FUNCTION.

    A ValueError in one line, whatever the module raises.
    """
    module, function = _split(name)
    _look_here()
    try:
        made = getattr(import_module(module), function)()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be made: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"expected that {name} returns a torch.nn.Module, found {type(made).__name__}")
    if lazy := [key for key, tensor in (*made.named_parameters(), *made.named_buffers()) if is_lazy(tensor)]:
        raise ValueError(
            f"expected weights of known shapes from {name}, found none yet in {some(lazy)}; "
            f"in {function} pass some images through it before it is returned"
        )
    return made


def _split(name: str) -> tuple[str, str]:
    """`"py:MODULE:FUNCTION" -> (MODULE, FUNCTION)`."""
    kind, module, function = (*name.split(":"), "", "")[:3]
    if kind != "py" or not module or not function or name.count(":") != 2:
        raise ValueError(f"expected an encoder py:MODULE:FUNCTION, found {name!r}")
    return module, function


def _look_here() -> None:
    """Lets modules of the working directory be found."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
