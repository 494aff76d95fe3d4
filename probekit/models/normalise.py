"""Normalisation of images inside an encoder: images are in [0, 1] everywhere else."""

from probekit.models.backbones import timm_config

# Of ImageNet's training images, as torchvision and all that follow it have them.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TABLES = {"imagenet": IMAGENET, "swav": {**IMAGENET, "std": [0.228, 0.224, 0.225]}}  # SwAV, official code


def normalisation(name: str, backbone: str, channels: int) -> dict[str, list[float]] | None:
    """Mean and standard deviation of each channel, or None.

    Args:
        name: One of `TABLES`; "timm", as its own weights of the backbone expect; "none", or "auto", which is none.
        backbone: As an encoder names it.
        channels: Image channels; one channel gets the means over the three.

    Raises:
        ValueError: If timm is asked about a backbone that is not its own.
    """
    if name in ("none", "auto"):
        return None
    if name == "timm":
        kind, _, model = backbone.partition(":")
        if kind != "timm":
            raise ValueError(f"expected a backbone of timm for model.normalise timm, found {backbone}; type imagenet")
        config = timm_config(model)
        found = {"mean": list(config.mean), "std": list(config.std)}
    else:
        found = TABLES[name]
    if channels == 1:
        return {key: [sum(values) / len(values)] for key, values in found.items()}
    return found
