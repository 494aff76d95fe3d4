"""Lets torchvision be imported where its compiled operators do not fit torch: its Python code is all we use.

Import this before torchvision.
"""

import torch


def declare() -> list[torch.library.Library]:
    """Declares the operators that importing torchvision looks up, if it lacks them; none of them is ever run."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        return [library]
    return []


# A library forgets its definitions when it is collected.
KEPT = declare()
