"""probekit: what does an image encoder really see, the fine detail or only the gist?

import probekit as pk
images = pk.generate("landolt", n=1000, gap=3)  # a pk.Dataset: images, labels, factors, masks, counterfactuals
encoder = pk.load("timm:resnet18", weights="resnet18.pth")  # or a run, or a module of your own
pk.exam(encoder)  # what it reads, in pixels; also pk.probe, pk.heatmap, pk.report
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.api.certified import certify
    from probekit.api.measure import exam, heatmap, probe, report
    from probekit.data.dataset import Dataset
    from probekit.data.dataset import render as generate
    from probekit.restore.load import load

__version__ = "0.1.0"
__all__ = ["Dataset", "certify", "exam", "generate", "heatmap", "load", "probe", "report"]

_WHERE = {  # imported when it is used, as most bring torch along
    "Dataset": ("probekit.data.dataset", "Dataset"),
    "certify": ("probekit.api.certified", "certify"),
    "generate": ("probekit.data.dataset", "render"),
    "load": ("probekit.restore.load", "load"),
    **{name: ("probekit.api.measure", name) for name in ("exam", "heatmap", "probe", "report")},
}


def __getattr__(name: str) -> Any:
    """What `__all__` names; the errors of a function speak of its arguments, not of the options of a command."""
    if name not in _WHERE:
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        from probekit.installed import NO_OPENCV

        raise ImportError(NO_OPENCV) from error
    if not isinstance(found, type):
        found = import_module("probekit.api.spoken").in_python(found)
    globals()[name] = found
    return found
