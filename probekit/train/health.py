"""Whether a run collapses while it trains: numbers for every epoch, and a line that names the likely cause."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.base import branches_of
from probekit.methods.base import Method

# In metrics.jsonl. Of the embedding:
DEVIATION, GAP, RANK = "deviation", "similarity gap", "effective rank"
# Of the projections, which are what a loss can make collapse:
OF_PROJECTIONS = "projection "
SPREAD, DIRECTIONS = OF_PROJECTIONS + "spread", OF_PROJECTIONS + "directions"
USED = "prototypes used"
OWN_LOSS = "method loss"  # without that of branches
NUMBERS = {DEVIATION, GAP, OF_PROJECTIONS + DEVIATION, OF_PROJECTIONS + GAP, SPREAD, DIRECTIONS, USED}

COLLAPSED = 0.01  # of the deviation of directions that are spread evenly; as `probekit.probes.spectrum`
ALIKE = 0.02  # a hundredth of the range of a difference of cosines
FEW = 0.05  # of the prototypes; ours
STUCK = 0.01  # of the loss of an encoder that tells nothing apart; ours
PATIENCE = 0.1  # of the epochs, before what a run has not learned yet counts; ours
# Measured at preset quick on rect-tri (docs/log.md, 2026-11-22). Healthy VICReg's spread is never under .2 of what its
# loss asks for; without variance and covariance it is under .04 after 80 steps, .006 after 600.
SHRUNK = 0.05
# SimSiam without stop-gradient varies in 1.00 to 1.1 directions, BYOL at a rate 30 times too high in 1.04 to 1.14, with
# gaps of -.07 to .06; healthy runs in 1.3 at least. Batch norm at a projector's end keeps spread and deviation up:
# SimSiam's stay at .99 and above .43.
ONE, BLIND = 1.2, 0.1


class CollapseError(ValueError):
    """All images are alike to the method, and --fail-on-collapse was typed."""


@torch.no_grad()
def batch_health(pooled: Tensor, batch: int) -> dict[str, Tensor]:
    """Health of the vectors `[V * B, D]` of a batch's views, one view after another: scalars on the device.

    Returns deviation: sqrt(D) times the mean standard deviation of unit vectors' dimensions: 0 after a collapse, 1
    where directions are spread evenly (SimSiam, section 4.1). With two views also the similarity gap: the mean cosine
    of an image's views less that of different images, in [-2, 2]; 0 where images are not told apart.
    """
    z = F.normalize(pooled.detach().float(), dim=1)
    found = {DEVIATION: z.std(0, unbiased=False).mean() * z.shape[1] ** 0.5}
    if len(z) == 2 * batch and batch > 1:
        cosines = z[:batch] @ z[batch:].T
        found[GAP] = torch.sub(cosines.trace(), cosines.sum(), alpha=1 / batch) / (batch - 1)
    return found


@torch.no_grad()
def projection_health(projections: Tensor | None, batch: int) -> dict[str, Tensor]:
    """Health of the projections `[2 * B, P]` of both views: as `batch_health`, and the spread around each view's mean.

    Returns "projection deviation" and "projection similarity gap"; "projection spread", the mean standard deviation of
    their features, as long as they are; "projection directions", in how many they vary: (sum of variances)^2 over the
    sum of their squares, from 1 (one direction) to the smaller of P and 2B - 2, 0 where none varies. None of all that
    for a loss without projections.
    """
    if projections is None:
        return {}
    found = {OF_PROJECTIONS + name: value for name, value in batch_health(projections, batch).items()}
    z = projections.detach().float().view(-1, batch, projections.shape[1])
    centred = (z - z.mean(1, keepdim=True)).flatten(0, 1)
    lengths = torch.linalg.vector_norm(centred, dim=0)
    found[SPREAD] = lengths.mean() / len(centred) ** 0.5
    # Of the Gram matrix, whose eigenvalues are the variances; scaled first, for neither overflow nor 0 / 0.
    length = torch.linalg.vector_norm(lengths)
    unit = centred / length.clamp(min=torch.finfo(z.dtype).tiny)
    purity = torch.linalg.vector_norm(unit @ unit.T).square()
    found[DIRECTIONS] = (length > 0) / purity.clamp(min=1 / len(unit))
    return found


def complaints(line: Mapping[str, float], method: Method, *, epochs: int) -> dict[str, str]:
    """What is wrong with a run after an epoch, by kind: "collapse", "prototypes", "stuck".

    `line`: a line of metrics.jsonl: the epoch and the means of its scalars; `epochs`: how many the whole run has.
    """
    late = line["epoch"] > max(3, PATIENCE * epochs)
    after = f"after epoch {line['epoch']:g}"
    found: dict[str, str] = {}
    if symptom := _collapse(line, method, late=late):
        cause = _cause(method, "optimizer.lr is too high, or the batch too small")
        found["collapse"] = f"collapse: {symptom} {after}; {cause}"
    if late and (used := line.get(USED)) is not None and used < FEW:
        found["prototypes"] = (
            f"images are nearest to very few of the prototypes ({100 * used:.1f} % of what could be) {after}; "
            f"{_cause(method, 'there are too many of them, or their codes are too sharp')}"
        )
    chance, loss = method.chance_loss, line.get(OWN_LOSS, line["loss"])
    gap = line.get(OF_PROJECTIONS + GAP, line.get(GAP))
    if chance is not None and late and abs(loss - chance) < STUCK * chance and (gap is None or gap < ALIKE):
        found["stuck"] = (
            f"the loss stays at {loss:.3f} {after}, where it is ({chance:.3f}) for an encoder that tells nothing "
            f"apart; {_cause(method, 'too few steps so far, or optimizer.lr is too low')}"
        )
    return found


def _collapse(line: Mapping[str, float], method: Method, *, late: bool) -> str:
    """In what all images are alike; "" where they are not."""
    for name, what in ((DEVIATION, "embeddings"), (OF_PROJECTIONS + DEVIATION, "projections")):
        if (deviation := line.get(name)) is not None and deviation < COLLAPSED:
            return f"the {what} of all images are nearly alike (deviation {deviation:.2g} of 1)"
    spread = line.get(SPREAD)
    if spread is not None and method.spread is not None and spread < SHRUNK * method.spread:
        return f"the projections shrink to a point (spread {spread:.2g}, where the loss asks for {method.spread:g})"
    directions, gap = line.get(DIRECTIONS), line.get(OF_PROJECTIONS + GAP)
    if late and directions is not None and gap is not None and directions < ONE and gap < BLIND:
        return (
            f"the projections vary in one direction alone ({directions:.2f}), and two views of an image are no more "
            f"alike in it than those of two images (similarity gap {gap:.2f})"
        )
    return ""


def _cause(method: Method, otherwise: str) -> str:
    """The likely cause: the method's own unless its remedy is in place already."""
    changes = {name: value for name, value in method.remedy.items() if getattr(method, name) != value}
    if not changes:
        in_the_way = ", or a branch is in the way: try it with weight 0"
        return f"likely {otherwise}{in_the_way if any(branch.weight for branch in branches_of(method)) else ''}"
    return f"likely {method.cause}: " + " ".join(f"--set method.{name}={value:g}" for name, value in changes.items())
