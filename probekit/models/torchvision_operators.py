"""Imports modules that need torchvision, also where its compiled operators do not fit torch: the CPU build has none.

timm and most encoders of a user's own need its Python code alone.
"""

import importlib
from functools import cache
from types import ModuleType

import torch


def import_module(name: str) -> ModuleType:
    """The module; if torchvision's operators are why it cannot be imported, they are declared first.

    Raises:
        Exception: Whatever else the import raises.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    _declare()
    return importlib.import_module(name)


@cache  # a library forgets its definitions when it is collected
def _declare() -> torch.library.Library:
    """Declares the operators that importing torchvision looks up; none of them is ever run."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library
