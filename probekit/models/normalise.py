"""Normalisation of images inside an encoder: images are in [0, 1] everywhere else."""

from collections import defaultdict
from collections.abc import Mapping

from probekit.models.backbones import timm_config, timm_tags

# Of ImageNet's training images, as torchvision and all that follow it have them.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TABLES = {"imagenet": IMAGENET, "swav": {**IMAGENET, "std": [0.228, 0.224, 0.225]}}  # SwAV, official code


def normalisation(name: str, backbone: str, channels: int) -> dict[str, list[float]] | None:
    """Mean and standard deviation of each channel, or None.

    A ValueError if timm is asked about a backbone that is not its own. `name`: one of `TABLES`; "timm", as its own
    weights of the backbone expect; "none", or "auto", which is none. `backbone`: as an encoder names it. `channels`:
    image channels; one channel gets the means over the three.
    """
    if name in ("none", "auto"):
        return None
    if name == "timm":
        kind, _, model = backbone.partition(":")
        if kind != "timm":
            raise ValueError(
                f"expected a backbone of timm for model.normalise timm, found {backbone}; "
                "type: --set model.normalise=imagenet"
            )
        config = timm_config(model)
        found = {"mean": list(config.mean), "std": list(config.std)}
    else:
        found = TABLES[name]
    if channels == 1:
        return {key: [sum(values) / len(values)] for key, values in found.items()}
    return found


def known_normalisation(backbone: str) -> str:
    """What published weights of a backbone expect: "timm" where timm knows another normalisation than ImageNet's.

    A ValueError if timm knows several for the name, by the tag of the weights.
    """
    kind, _, model = backbone.partition(":")
    if kind != "timm":
        return "imagenet"
    tags = [] if "." in model else timm_tags(model)
    found: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        found[str(normalisation("timm", f"{backbone}.{tag}", 3))].append(tag)
    if len(found) > 1:
        groups = "; ".join(f"{', '.join(same[:2])}, ...: {values}" for values, same in found.items())
        raise ValueError(
            f"expected the tag of the weights behind {backbone}, as in {backbone}.{tags[0]}, found none, and by it "
            f"timm knows several normalisations ({groups}); name it, or type: --set model.normalise=imagenet"
        )
    return "imagenet" if normalisation("timm", backbone, 3) == IMAGENET else "timm"


def described(values: Mapping[str, list[float]] | None) -> str:
    """For the reader: what a normalisation takes off and divides by, and whether that is ImageNet's."""
    if values is None:
        return "none, images in [0, 1]"
    mean, std = (" ".join(f"{value:.3f}" for value in values[key]) for key in ("mean", "std"))
    own = values != normalisation("imagenet", "", len(values["mean"]))
    return f"mean {mean}, standard deviation {std}{', not those of ImageNet' if own else ''}"
