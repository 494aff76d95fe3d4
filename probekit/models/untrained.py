"""The random network that a trained one is measured beside: an initialisation without what helps only training.

Networks are often made to begin as (nearly) the identity: the last norm of a residual block is zeroed, or its branch
multiplied by 1e-5. Training soon mends that; without training most of such a network says nothing, and whatever is
measured beside it looks good.
"""

from typing import Any

import torch
from torch import nn

from probekit.models.encoder import Encoder, build_encoder

SCALES = ("gamma", "layer_scale", "ls", "scale", "skipinit_gain")  # begin the names of what a branch is multiplied by
FAINT = 0.1  # a scale of at most that hides its branch: papers have 0 to 1e-5, BEiT .1; those of activations are above
SAME = 1e-5  # relative to the largest; embeddings that differ by less are the same
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def untrained_encoder(spec: dict[str, Any], seed: int) -> Encoder:
    """The encoder that `spec` (an encoder's) describes with the plain random weights of a seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(spec)
        make_plain(encoder)
    return encoder.eval()


@torch.no_grad()
def make_plain(network: nn.Module) -> None:
    """Gives a network with fresh weights, in place, a plain initialisation.

    Linear layers and convolutions have no offset, else in a deep one offsets are all that comes through, and weights
    that are not all 0; norms neither scale nor shift; and branches are not scaled down. All else stays as it is.
    """
    for module in network.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, LAYERS):
            if not module.weight.any():
                module.reset_parameters()
        elif isinstance(module, NORMS):
            if "weight" in own:
                own["weight"].fill_(1)
        else:
            for name, scale in own.items():
                if name.startswith(SCALES) and bool((scale == scale.flatten()[0]).all()) and scale.abs().max() <= FAINT:
                    scale.fill_(1)
            continue
        if "bias" in own:
            own["bias"].zero_()


@torch.no_grad()
def alike(first: Encoder, second: Encoder, size: tuple[int, int], device: torch.device) -> bool:
    """Whether two encoders in eval mode on a device give the same embeddings of noise of (height, width)."""
    noise = torch.rand(2, first.spec["channels"], *size, generator=torch.Generator().manual_seed(0)).to(device)
    own, other = first(noise).pooled, second(noise).pooled
    return bool((own - other).abs().max() <= SAME * own.abs().max())
