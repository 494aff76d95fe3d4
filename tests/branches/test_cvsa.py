"""CVSA: the alignment against loops, whose masks and maps it takes, and that it can be learned.

Alone: pytest tests/branches/test_cvsa.py
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.base import attach
from probekit.branches.cvsa import CVSA, alignment
from probekit.restore.build import build_method
from probekit.views.paste import draw_paste, regions_of, seen_masks, swapped
from tests.branches.attached import N, configured, forward, only, step_of
from tests.chance import noise, seeded


def by_loops(key: Tensor, there: Tensor, query: Tensor, here: Tensor, temperature: float) -> tuple[float, float]:
    """Divergence and share on the foreground of one image: maps `[D, h, w]`, masks `[h, w]`."""
    if not there.any() or not here.any():
        return 0.0, 0.0
    cells = [(i, j) for i in range(here.shape[0]) for j in range(here.shape[1])]
    vector = sum(float(there[c]) * key[(slice(None), *c)] for c in cells)
    cosines = [float(F.cosine_similarity(vector, query[(slice(None), *c)], dim=0)) for c in cells]  # type: ignore[arg-type]
    total = sum(math.exp(cosine / temperature) for cosine in cosines)
    answers = [math.exp(cosine / temperature) / total for cosine in cosines]
    shares = [float(here[c]) / float(here.sum()) for c in cells]
    divergence = sum(s * math.log(s / a) for s, a in zip(shares, answers, strict=True) if s)
    return divergence, sum(a * float(here[c]) for a, c in zip(answers, cells, strict=True))


def test_the_alignment_is_that_of_loops() -> None:
    key, query = torch.randn(5, 6, 3, 4, generator=seeded()), torch.randn(5, 6, 3, 4, generator=seeded(1))
    masks = torch.rand(2, 5, 3, 4, generator=seeded(2)) * (torch.rand(2, 5, 3, 4, generator=seeded(3)) < 0.5)
    masks[0, 3], masks[1, 4] = 0, 0
    loss, inside = alignment(key, masks[0], query, masks[1], temperature=0.3)
    expected = [by_loops(key[n], masks[0, n], query[n], masks[1, n], 0.3) for n in range(5)]
    assert sum(each == (0.0, 0.0) for each in expected) == 2
    assert float(loss) == pytest.approx(sum(divergence for divergence, _ in expected) / 5, rel=1e-4)
    assert float(inside) == pytest.approx(sum(share for _, share in expected) / 5, rel=1e-4)


def test_without_any_foreground_it_is_0_with_gradients() -> None:
    query = torch.randn(2, 6, 3, 4, generator=seeded(), requires_grad=True)
    loss, _ = alignment(query.detach(), torch.zeros(2, 3, 4), query, torch.zeros(2, 3, 4), temperature=0.3)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert query.grad is not None
    assert torch.equal(query.grad, torch.zeros_like(query))


def check_loss(method: str) -> None:
    """The loss of a step against loops, with a block in every image."""
    masks = torch.zeros(N, 1, 16, 16, dtype=torch.uint8)
    for n in range(N):
        masks[n, :, n % 8 : n % 8 + 7, n % 5 : n % 5 + 9] = 255
    step = step_of(configured(method, "cvsa", branch__cvsa__share=0.6))
    branch: CVSA = only(step.method)
    branch.take_masks(lambda name: masks)
    batch = forward(step)
    assert batch.views is not None
    loss = branch.loss(batch)
    size = (batch.features.map.shape[2], batch.features.map.shape[3])
    boxes, flipped = batch.views.boxes.flatten(0, 1), batch.views.flipped.flatten()
    seen = seen_masks(branch.covered[:16], boxes, flipped, size).view(2, 8, *size)
    online = batch.features.map.detach().view(-1, 8, *batch.features.map.shape[1:])
    target = online if batch.target_map is None else batch.target_map.view(-1, 8, *online.shape[2:])
    assert (batch.target_map is None) == (method in ("simclr", "swav"))
    pairs = [(target[-1], seen[1], online[0], seen[0])]
    if method != "moco-v2":
        pairs.append((target[0], seen[0], online[1], seen[1]))
    found = [by_loops(k[n], there[n], q[n], here[n], 0.2)[0] for k, there, q, here in pairs for n in range(8)]
    assert float(loss.detach()) == pytest.approx(sum(found) / len(found), rel=1e-3)
    assert float(branch.logs["foreground"]) == pytest.approx(float(seen.mean()), rel=1e-4)


@pytest.mark.parametrize("method", ["moco-v2", "simclr", "byol", "swav"])
def test_a_steps_loss_is_of_its_maps_and_the_masks_of_its_views(method: str) -> None:
    """Of swav the large crops alone; of moco-v2 the query against its key; of byol each against the target's other."""
    check_loss(method)


def test_what_is_swapped_is_of_the_batchs_images() -> None:
    step = step_of(configured("simclr", "cvsa", branch__cvsa__share=0.6))
    branch: CVSA = only(step.method)
    masks = noise(N, 1, 16, 16) * (torch.arange(16) > 4).view(1, 1, 16, 1)
    masks[::2, :, :, 9:] = 0
    branch.take_masks(lambda name: masks)
    index = torch.tensor([3, 11, 5, 0, 20, 7, 2, 9])
    made = branch.paste(index, step.images[index], 2, seeded(4))
    drawn = draw_paste(8, 2, seeded(4), share=0.6, background="image", blur=0.0)
    regions = regions_of(masks)
    own, other = regions[index].repeat(2, 1), regions[index[drawn.other]]
    expected, covered = swapped(step.images[index], masks[index], step.images[index], (own, other), drawn)
    assert torch.equal(made, expected)
    assert torch.equal(branch.covered, covered)
    assert not torch.equal(made, step.images[index].repeat(2, 1, 1, 1))


def test_a_method_of_one_view_is_refused_by_name() -> None:
    method = build_method(configured("supervised"), channels=1, classes=2)
    with pytest.raises(ValueError, match="two views of each image for branch 'cvsa', found "):
        attach(method, CVSA(method.encoder))


def test_with_weight_0_nothing_is_swapped() -> None:
    alone, beside = (
        step_of(configured("moco-v2", *branches, **options))
        for branches, options in (((), {}), (("cvsa",), {"branch__cvsa__weight": 0.0}))
    )
    index = torch.arange(8)
    assert torch.equal(alone(index, alone.images[index]), beside(index, beside.images[index]))


def test_answers_come_to_lie_on_the_foreground() -> None:
    """White blocks on noise: after 60 steps most of the answers are inside, where at first so many are as by area."""
    step = step_of(configured("simclr", "cvsa", branch__cvsa__share=0.5, optimizer__lr=2e-3))
    branch: CVSA = only(step.method)
    masks = torch.zeros(N, 1, 16, 16, dtype=torch.uint8)
    for n in range(N):
        masks[n, :, n % 8 : n % 8 + 7, n % 5 : n % 5 + 9] = 255
    branch.take_masks(lambda name: masks)
    step.images = torch.where(masks > 0, 250, noise(N, 1, 16, 16) // 2).to(torch.uint8)
    table = torch.stack([step(i, step.images[i]) for i in torch.arange(24).view(3, 8).repeat(20, 1)])
    columns = dict(zip(step.names, table.T, strict=True))
    assert columns["cvsa inside"][-12:].mean() > columns["cvsa inside"][:12].mean() + 0.03
