"""Which modules of a network are its layers, and how what they give is read."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probekit.models.backbones import TRUNKS, TimmBackbone
from probekit.models.encoder import Encoder
from probekit.models.layers.network import (
    EMBEDDING,
    MAP,
    NORMS,
    PRODUCTS,
    PROJECTION,
    Layer,
    Whole,
    hooked,
    read_pass,
    run,
)
from probekit.models.layers.outputs import Form, first_tensor, form_of, oblong_form
from probekit.models.unet import UNetEncoder

LONG = 8  # children; a longer sequence is opened: its parts are layers
REGISTERS = ("register_tokens", "storage_tokens")  # parameters `[1, R, D]` of DINOv2 and Hugging Face; of DINOv3
MOST = 0.9  # of its parent's weights; a child with more is opened
ACTIVATION = re.compile("activation|swish|[egs]elu|relu|mish", re.IGNORECASE)  # in the name of a class or its module

Called = dict[str, tuple[Tensor | None, Tensor | None]]  # what a module took and gave, by its name


def find_layers(network: Whole, trial: Tensor, oblong: Callable[[], Tensor]) -> tuple[dict[str, Layer], list[str]]:
    """The layers of a network, in the order of their last calls, with all the pools that they have.

    Args:
        trial: Square images. As few layers as can be should give that many of anything else.
        oblong: Makes such images twice as wide, for layers whose maps square images do not explain.

    Returns:
        The layers by name, and a line for each that is not read.
    """
    paths = _paths(network.encoder, called_in(network, trial))
    given, others = _given(network, paths, trial)
    prefixes = prefixes_of(network.encoder)
    forms: dict[str, Form | str] = {}
    for name, output in given.items():
        module = network.get_submodule(paths[name])
        forms[name] = "gives no tensor" if output is None else form_of(output, len(trial), module, prefixes)
    unsure = {name: paths[name] for name, form in forms.items() if form == "unsure"}
    if unsure:
        forms |= _by_oblong(network, unsure, given, oblong())
    found = {name: Layer(paths[name], form) for name, form in forms.items() if isinstance(form, Form)}
    for name, output in others.items():
        cells = (output.shape[2], output.shape[3]) if output.ndim == 4 else None
        found[name] = Layer("", Form("vector" if cells is None else "NCHW", output.shape[1], cells))
    for layer in found.values():
        layer.pools = layer.form.pools
    if not _adds(network, found, trial):
        del found[MAP]
    left_out = [f"{name}: {form}" for name, form in forms.items() if isinstance(form, str)]
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        left_out.append("what is TorchScript: its layers cannot be watched")
    return found, left_out


def called_in(network: Whole, trial: Tensor) -> set[nn.Module]:
    """The modules that a pass calls."""
    called: set[nn.Module] = set()

    def note(module: nn.Module, taken: Any, output: Any) -> None:
        called.add(module)

    with hooked(network, {path: partial(note, module) for path, module in network.named_modules()}):
        run(network, trial)
    return called


def _paths(encoder: Encoder, called: Collection[nn.Module]) -> dict[str, str]:
    """Modules of the backbone that may be layers: their paths in `Whole`, by name."""
    backbone = encoder.backbone
    if isinstance(backbone, UNetEncoder):
        return {f"level{number + 1}": f"encoder.backbone.levels.{number}" for number in range(len(backbone.levels))}
    inner, stages = "module", []
    if isinstance(backbone, TimmBackbone):
        known = getattr(backbone.model, "feature_info", ())
        inner, stages = "model", [stage["module"] for stage in getattr(known, "info", known)]
    names = _opened(getattr(backbone, inner), "", called, stages)
    own = (MAP, EMBEDDING, PROJECTION)
    return {f"module.{name}" if name in own else name: f"encoder.backbone.{inner}.{name}" for name in names}


def _opened(parent: nn.Module, path: str, called: Collection[nn.Module], stages: Collection[str]) -> Iterator[str]:
    """Names of the called children of a module; lists, long sequences and what is nearly the whole are opened.

    `stages` are not, where a model names its own.
    """
    whole = _weights(parent)
    for name, child in parent.named_children():
        size = len(list(child.children()))
        sequence = isinstance(child, nn.Sequential) and (size > LONG or name in TRUNKS)
        most = size > 0 and not isinstance(parent, nn.Sequential | nn.ModuleList) and _weights(child) > MOST * whole
        if child not in called or ((sequence or most) and path + name not in stages):
            yield from _opened(child, f"{path}{name}.", called, stages)
        else:
            yield path + name


def _given(
    network: Whole, paths: Mapping[str, str], trial: Tensor
) -> tuple[dict[str, Tensor | None], dict[str, Tensor]]:
    """What each layer gave last in a pass, and what the whole network did."""
    called: Called = {}
    counts: Counter[str] = Counter()

    def watch(name: str, taken: Any, output: Any) -> None:
        counts[name] += 1
        called.pop(name, None)  # so that the last call has the place
        called[name] = (first_tensor(taken), first_tensor(output))

    products: list[Tensor] = []

    def note(taken: Any, output: Tensor) -> None:
        products.append(output)

    inner = {path: note for path, module in network.named_modules() if isinstance(module, PRODUCTS)}
    with hooked(network, inner), hooked(network, {path: partial(watch, name) for name, path in paths.items()}):
        others = run(network, trial)
    kept: Called = {}
    for name, (taken, given) in called.items():
        module = network.get_submodule(paths[name])
        before = next((other for other, (_, tensor) in reversed(kept.items()) if tensor is taken is not None), None)
        is_product = any(product is taken for product in products)
        if before and counts[name] == 1 and _finishes(module, taken, given, is_product=is_product):
            del kept[before]
        elif not _weights(module):
            continue
        kept[name] = (taken, given)
    return {name: given for name, (_, given) in kept.items()}, others


def _finishes(module: nn.Module, taken: Tensor | None, given: Tensor | None, *, is_product: bool) -> bool:
    """Whether a module is but the activation of what it took, or the norm of what a convolution or the like gave."""
    if taken is None or given is None or taken.shape != given.shape:
        return False
    if _weights(module):
        return is_product and isinstance(module, NORMS)
    return bool(ACTIVATION.search(f"{type(module).__module__}.{type(module).__name__}"))


def _by_oblong(
    network: Whole, paths: Mapping[str, str], square: Mapping[str, Tensor | None], images: Tensor
) -> dict[str, Form | str]:
    """The forms of maps whose sides tell nothing, from images twice as wide, if the network takes them."""
    found: dict[str, Tensor | None] = {}

    def keep(name: str, taken: Any, output: Any) -> None:
        found[name] = first_tensor(output)

    with hooked(network, {path: partial(keep, name) for name, path in paths.items()}):
        try:
            run(network, images)
        except Exception:  # whatever a network made for one size raises
            found.clear()
    forms: dict[str, Form | str] = {}
    for name in paths:
        wide, like = found.get(name), square[name]
        form = None if wide is None or like is None else oblong_form(wide, like.shape)
        forms[name] = form or "gives as many channels as rows, so that nothing tells which are which"
    return forms


def _adds(network: Whole, layers: Mapping[str, Layer], trial: Tensor) -> bool:
    """Whether the map that is pooled is something else than what the last module gives, and than the embedding."""
    if layers[MAP].form.cells == (1, 1):
        return False
    last = [name for name, layer in layers.items() if layer.path][-1:]
    values = read_pass(network, {name: layers[name] for name in (*last, MAP)}, trial)
    twins = [(values[MAP, pool], values.get((name, pool))) for name in last for pool in layers[MAP].pools]
    return not twins or any(twin is None or not torch.equal(own, twin) for own, twin in twins)


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def prefixes_of(encoder: Encoder) -> dict[int, bool] | None:
    """How many tokens a transformer puts before those of patches, and whether one of the class is the first.

    As timm's say it, or as those do that keep registers beside the class's token: DINOv2 and 3, and Hugging Face's.
    """
    known: dict[int, bool] = {}
    for module in encoder.modules():
        count, own = getattr(module, "num_prefix_tokens", None), getattr(module, "cls_token", None)
        registers = next((t for name in REGISTERS if isinstance(t := getattr(module, name, None), Tensor)), None)
        if not isinstance(count, int) and isinstance(own, Tensor) and registers is not None:
            count = own.shape[-2] + registers.shape[-2]
        if isinstance(count, int):  # some have registers, and none of the class
            known[count] = known.get(count, False) or isinstance(own, Tensor)
    return {0: False, **known} if known else None
