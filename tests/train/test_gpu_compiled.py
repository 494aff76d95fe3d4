"""torch.compile takes the views as one graph, and what it cannot take goes on as it is.

Alone: pytest tests/train/test_gpu_compiled.py
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.train.gpu import Compiled, compile_networks
from probekit.train.step import fastest_step
from probekit.views import corrupt, jitter
from probekit.views import recipes as views
from probekit.views.crops import CropTables, Placement, resized
from probekit.views.recipes import RECIPES, ViewMaker
from tests.chance import apply_to_all, noise, seeded
from tests.train.test_step import configured, step_of


def augment_as_a_gpu_does(images: Tensor, drawn: Any, tables: CropTables) -> Tensor:
    boxes, flipped, *changes = drawn
    return jitter.change(resized(images / 255, boxes, flipped, tables), *changes)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's way, and torch.compile without the compiler: it traces one graph of torch's operators, or raises."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(views, "_augment", augment_as_a_gpu_does)
    for module in (jitter, corrupt):
        monkeypatch.setattr(module, "apply_where", apply_to_all)
    torch._dynamo.reset()


@pytest.mark.parametrize(("recipe", "channels"), [("conrec", 1), ("dino", 3), ("moco-v2", 1), ("supervised", 1)])
def test_views_are_one_graph_and_the_same(recipe: str, channels: int, traced: None) -> None:
    images, maker = noise(4, channels, 32, 32), ViewMaker(RECIPES[recipe], (channels, 32, 32))
    drawn = maker.draw(4, seeded())
    made, compiled = maker(images, drawn), Compiled(maker.forward, "views", pytest.fail)(images, drawn)
    torch.testing.assert_close(compiled.inputs, made.inputs, atol=2e-6, rtol=0)
    torch.testing.assert_close(compiled.targets, made.targets, atol=2e-6, rtol=0)
    assert torch.equal(compiled.boxes, made.boxes)
    assert (made.local is None) == (compiled.local is None)
    if made.local is not None:
        torch.testing.assert_close(compiled.local.inputs, made.local.inputs, atol=2e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize(("recipe", "channels"), [("conrec", 1), ("conrec", 3), ("dino", 3)])
@pytest.mark.parametrize("placed", [False, True])
def test_compiled_views_are_the_same_on_a_gpu(recipe: str, channels: int, placed: bool) -> None:
    torch._dynamo.reset()
    images = noise(4, channels, 64, 64).cuda()
    maker = ViewMaker(RECIPES[recipe], (channels, 64, 64)).cuda()
    drawn = maker.draw(4, torch.Generator("cuda").manual_seed(0))
    regions = torch.tensor([[8, 8, 40, 56]] * 4, device="cuda")
    placement = Placement(regions, torch.linspace(0, 1, 33, device="cuda")) if placed else None
    compiled = Compiled(maker.forward, "views", pytest.fail)
    with torch.autocast("cuda", torch.bfloat16):
        made, found = maker(images, drawn, placement), compiled(images, drawn, placement)
    assert torch.equal(found.boxes, made.boxes)
    # Nearly all pixels; solarisation jumps where a pixel lies at the cut.
    assert ((found.inputs - made.inputs).abs() < 1e-5).float().mean() > 0.999


def test_what_cannot_be_compiled_goes_on_and_says_so_once() -> None:
    said: list[str] = []
    compiled = Compiled(lambda x: x + len(said) * 0 + float(x.sum().numpy()) * 0, "views", said.append)
    compiled.fast = lambda x: 1 / 0
    for _ in range(3):
        assert torch.equal(compiled(torch.ones(2)), torch.ones(2))
    assert said == ["torch.compile cannot take the views, which are launched kernel by kernel: division by zero"]


def test_memory_that_runs_out_is_not_blamed_on_the_compiler() -> None:
    compiled = Compiled(lambda x: x, "views", pytest.fail)

    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiled.fast = full
    with pytest.raises(torch.OutOfMemoryError):
        compiled(torch.ones(2))


def test_networks_are_compiled_while_they_train_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(function: Any, **settings: Any) -> Any:
        def run(*inputs: Any) -> Any:
            asked.append(function.__self__.__class__.__name__)
            return function(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", fake)
    step = step_of(configured("conrec"))
    names = step.method.state_dict().keys()
    compile_networks(step.method, pytest.fail)
    assert step.method.state_dict().keys() == names
    step.method.step(step.views(torch.arange(8), step.images[:8]))
    assert asked == ["UNetEncoder", "UNetDecoder"]
    step.method.eval()
    step.method.encoder(torch.rand(2, 1, 16, 16))
    assert len(asked) == 2


@pytest.mark.parametrize("what", ["views", "encoder", "off"])
def test_on_a_cpu_nothing_is_compiled(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    step = step_of(configured("simclr", **{"train.compile": what}))
    assert fastest_step(step, pytest.fail) is step
    assert step.make is step.maker
