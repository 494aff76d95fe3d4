"""probekit: what does an image encoder really see, the fine detail or only the gist?"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load` brings torch along, so it is imported when it is used."""
    if name == "load":
        from probekit.restore.load import load

        return load
    raise AttributeError(f"module 'probekit' has no attribute {name!r}")
