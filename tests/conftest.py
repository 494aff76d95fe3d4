"""Lets torchvision be imported where its compiled operators do not fit torch: oracles need its Python code only."""

import torch


def _declare_torchvision_operators() -> list[torch.library.Library]:
    """Declares the operators that importing torchvision looks up; none of them is ever run."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return [library]


# A library forgets its definitions when it is collected.
_KEPT = _declare_torchvision_operators()
