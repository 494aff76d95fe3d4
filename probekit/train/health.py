"""Whether an encoder collapses while it trains: numbers for every epoch, and a line that names the likely cause."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.methods.base import Method

DEVIATION, GAP, RANK, USED = "deviation", "similarity gap", "effective rank", "prototypes used"  # in metrics.jsonl
COLLAPSED = 0.01  # of the deviation of directions that are spread evenly; as `probekit.probe.spectrum`
ALIKE = 0.02  # a hundredth of the range of a difference of cosines
FEW = 0.05  # of the prototypes; ours
STUCK = 0.01  # of the loss of an encoder that tells nothing apart; ours
PATIENCE = 0.1  # of the epochs, before a loss counts as stuck; ours


class CollapseError(ValueError):
    """The encoder gives the same embedding for every image, and --fail-on-collapse was typed."""


@torch.no_grad()
def batch_health(pooled: Tensor, batch: int) -> dict[str, Tensor]:
    """Of the embeddings `[V * B, D]` of a batch's views, one view after another: scalars on the device.

    Returns:
        deviation: sqrt(D) times the mean standard deviation of unit embeddings' dimensions: 0 after a collapse, 1 where
        directions are spread evenly (SimSiam, section 4.1). With two views also the similarity gap: the mean cosine of
        an image's views less that of different images, in [-2, 2]; 0 where images are not told apart.
    """
    z = F.normalize(pooled.detach().float(), dim=1)
    found = {DEVIATION: z.std(0, unbiased=False).mean() * z.shape[1] ** 0.5}
    if len(z) == 2 * batch and batch > 1:
        cosines = z[:batch] @ z[batch:].T
        own = cosines.diagonal().mean()
        found[GAP] = own - (cosines.sum() - cosines.diagonal().sum()) / (batch * (batch - 1))
    return found


def complaints(line: Mapping[str, float], method: Method, *, epochs: int) -> dict[str, str]:
    """What is wrong with a run after an epoch, by kind: "collapse", "prototypes", "stuck".

    Args:
        line: Of metrics.jsonl: the epoch and the means of its scalars.
        method: What is trained.
        epochs: Of the whole run.
    """
    found: dict[str, str] = {}
    deviation, gap = line.get(DEVIATION), line.get(GAP)
    if deviation is not None and deviation < COLLAPSED:
        found["collapse"] = (
            f"collapse: the embeddings of all images are nearly alike (deviation {deviation:.2g} of 1 after epoch "
            f"{line['epoch']:g}); {_cause(method, 'optimizer.lr is too high, or the batch too small')}"
        )
    if (used := line.get(USED)) is not None and used < FEW:
        found["prototypes"] = (
            f"{used:.1%} of the prototypes are used after epoch {line['epoch']:g}; "
            f"{_cause(method, 'there are too many of them, or their codes are too sharp')}"
        )
    chance = method.chance_loss
    late = line["epoch"] > max(3, PATIENCE * epochs)
    if chance is not None and late and abs(line["loss"] - chance) < STUCK * chance and (gap is None or gap < ALIKE):
        found["stuck"] = (
            f"the loss stays at {line['loss']:.3f} after epoch {line['epoch']:g}, where it is ({chance:.3f}) for an "
            f"encoder that tells nothing apart; {_cause(method, 'optimizer.lr is too low')}"
        )
    return found


def _cause(method: Method, otherwise: str) -> str:
    return f"likely {method.remedy or otherwise}"
