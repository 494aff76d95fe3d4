"""One training step: views, forward, losses, backward, update. Tensor code that never waits for the device."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from probekit.branches.base import Branch, active_branches, has_loss, running_branches, sources_of
from probekit.config import Config
from probekit.data.split import Images, Photographs, StreamedImages, feed, shrunk
from probekit.methods.base import Method, Step
from probekit.ranks import averaged, gathered, size
from probekit.restore.build import stream_seed
from probekit.train.gpu import Before, Compiled, compile_networks, release, told
from probekit.train.health import OWN_LOSS, batch_health, projection_health
from probekit.train.optim import build_optimizer, lay_as_weights, rates_on_device, scaled_rate
from probekit.views.crops import Placement
from probekit.views.cut import Cutter
from probekit.views.recipes import Drawn, ViewMaker, Views, own_boxes, recipe_of

WARM_UP = 3  # eager steps before a CUDA graph is recorded: cuDNN chooses its algorithms, the optimizer makes its state


class TrainingStep:
    """Makes one step on a batch, all on the device, and returns its scalars, float32 `[k]`.

    Of several processes each has its share of the batch, and the scalars' mean over them is that of the batch.

    `names`: what the k scalars are, known after the first step; "loss" is the first. `images`: all of the split, uint8
    `[N, C, H, W]`: branches may ask for more than the batch; `generator`: on the device: the source of the views'
    randomness; `labels`: int64 `[N]` on the device, for a method that needs them.
    """

    def __init__(
        self,
        config: Config,
        method: Method,
        optimizer: Optimizer,
        images: Images,
        generator: torch.Generator,
        labels: Tensor | None = None,
    ) -> None:
        self.config, self.method, self.optimizer = config, method, optimizer
        self.images, self.generator, self.labels = images, generator, labels
        self.view_size = shrunk(images, config.views.max_size)
        recipe, stride, cut = recipe_of(config.views), method.encoder.stride, isinstance(images, Photographs)
        self.maker, self.of_companions = (
            ViewMaker(each, images.shape[1:], size=self.view_size, stride=stride, cut=cut).to(images.device)
            for each in (recipe, recipe.first)
        )
        self.cutter, self.cutter_of_companions = (
            Cutter(images, maker) if isinstance(images, Photographs) else None
            for maker in (self.maker, self.of_companions)
        )
        self.make: Callable[..., Views] = self.maker
        self.make_companions: Callable[..., Views] = self.of_companions
        self.names: list[str] = []

    def __call__(self, index: Tensor, images: Tensor) -> Tensor:
        """The whole step on some images of the split: int64 `[B]`, and of these what `feed` gives."""
        loss, step = self._gradients(index, images)
        lay_as_weights(self.method.parameters())
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        averaged(gradients)
        if self.config.optimizer.clip:
            clip_each(gradients, self.config.optimizer.clip)
        self.optimizer.step()
        self.method.after_step()
        health = _health(step, len(index))
        own = {OWN_LOSS: step.loss.detach()} if any(map(has_loss, active_branches(self.method))) else {}
        logs = {"loss": loss.detach(), **own, **step.logs, **health}
        self.names = list(logs)
        return torch.stack([value.float() for value in logs.values()])

    def feed(self, batches: Sequence[Tensor], *, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of an index and its images uint8 `[B, C, H, W]`, or of photographs their crops, on the device.

        `batches`: int64 `[B]` each, on the CPU; the first of them is the epoch's batch `first`.
        """
        if self.cutter is None:
            return feed(self.images, batches)
        seeds = (stream_seed(self.config.seed, "crops", epoch, batch) for batch in itertools.count(first))
        placing = lambda index: self._placement(index.to(self.images.device))  # noqa: E731
        return self.cutter.feed(list(zip(batches, seeds, strict=False)), placing)

    def rehearse(self, batch: int) -> None:
        """Forward and backward of a batch of another size, and no update: does it fit into memory?

        Nothing trains after it, so views are compiled no more: each size would be on its own.
        """
        self.make, self.make_companions = self.maker, self.of_companions
        index = torch.arange(batch, device=self.images.device)
        empty = torch.zeros(batch, self.maker.packing.bytes, dtype=torch.uint8, device=index.device)
        self._gradients(index, empty if self.maker.cut else self.images[index])

    def views(self, index: Tensor, images: Tensor) -> Views:
        """Augmented views of a batch of images; arguments as for the step."""
        given = sources_of(running_branches(self.method), index, images, self.maker.recipe, self.generator)
        return self.make(given, self._drawn(self.maker, len(index)), self._placement(index))

    def _drawn(self, maker: ViewMaker, images: int, copies: int = 1) -> Drawn:
        """Draws for so many images of each process, each so many times; what this one needs of it."""
        batch = size() * images
        return maker.draw(copies * batch, self.generator).mine(batch)

    def _placement(self, index: Tensor) -> Placement | None:
        found = (branch.placement(index) for branch in running_branches(self.method))
        return next((placement for placement in found if placement is not None), None)

    def _gradients(self, index: Tensor, images: Tensor) -> tuple[Tensor, Step]:
        with torch.autocast(index.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16"):
            step = self._forward(index, images)
            loss = step.loss
            for branch in filter(has_loss, running_branches(self.method)):
                loss = loss + branch.weight * branch.loss(step)
                step.logs |= {f"{branch.name} {name}": value for name, value in branch.logs.items()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss, step

    def _forward(self, index: Tensor, images: Tensor) -> Step:
        views = self.views(index, images)
        if self.labels is not None:
            views.labels = self.labels[index]
        step = self.method.step(views)
        step.views = views
        for branch in running_branches(self.method):
            more = branch.companions(index, self.generator)
            if more is not None:
                step.companions[branch.name] = self.method.encode(self._first_views(more, len(index)))
        return step

    def _first_views(self, index: Tensor, batch: int) -> Tensor:
        if len(index) % batch:  # not so many for each image: then the draws have no order of the batch's to keep
            batch = len(index)
        drawn, placement = self._drawn(self.of_companions, batch, len(index) // batch), self._placement(index)
        if self.cutter_of_companions is None:
            images = self.images[index]
        else:
            whole = size() * batch
            boxes = self.of_companions.draw_boxes(len(index) // batch * whole, self.generator)
            crops = self.cutter_of_companions(index.cpu(), own_boxes(boxes, whole).cpu(), placement)
            images = crops.to(index.device)
        return self.make_companions(images, drawn, placement).inputs[0]

    def first_crops(self, seed: int) -> Images:
        """What `first_views` takes: all images, or of photographs a crop of each, read in order."""
        cutter = self.cutter_of_companions
        if cutter is None:
            return self.images
        generator = torch.Generator().manual_seed(stream_seed(seed, "crops"))  # `first_views` begins at the seed itself
        height, width = self.view_size
        shape = (len(self.images), self.images.shape[1], height, width)

        def read(index: Tensor) -> Tensor:
            crops = cutter(index, cutter.maker.draw_boxes(len(index), generator))
            return crops.view(-1, height, width, shape[1]).permute(0, 3, 1, 2)

        return StreamedImages(read, shape, self.images.device)

    def first_views(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each image in [0, 1], `[B, C, H, W]`, made as the recipe's first is and not corrupted."""
        images = (255 * x).round().to(torch.uint8)
        if self.of_companions.cut:
            images = images.permute(0, 2, 3, 1).flatten(1)
        return self.of_companions(images, self.of_companions.draw(len(images), generator)).inputs[0]  # type: ignore[no-any-return]


def _health(step: Step, batch: int) -> dict[str, Tensor]:
    """Numbers of the embeddings and projections of so many images of each process, of all of them."""
    pooled, projections = step.features.pooled.detach(), step.projections
    pooled = gathered(pooled, len(pooled) // batch)
    projections = None if projections is None else gathered(projections, len(projections) // batch)
    return batch_health(pooled, size() * batch) | projection_health(projections, size() * batch)


def clip_each(gradients: list[Tensor], largest: float) -> None:
    """Shortens each gradient whose norm is above `largest` to it, in place (DINO, official code: each by its own)."""
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((largest / (norms + 1e-6)).clamp(max=1).unbind()))


class RecordedStep:
    """A training step that is recorded as one CUDA graph: the host then launches that in place of each kernel.

    The first steps are made one kernel at a time; then the graph is recorded, which makes no step. What cannot be
    recorded goes on as it began, and says so once. When a branch begins to take part, all that is done anew. `graph`:
    the recording, or None before it and without it. `step`: on a GPU; all that it reads from step to step is there;
    `say`: takes a line for the user.
    """

    def __init__(self, step: TrainingStep, say: Callable[[str], None]) -> None:
        self.step, self.say = step, say
        self.stream = torch.cuda.Stream(step.images.device)  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.index = self.images = torch.empty(0)
        self.scalars = torch.empty(0)
        self.to_warm_up, self.running = WARM_UP, running_branches(step.method)

    def __call__(self, index: Tensor, images: Tensor) -> Tensor:
        """As the step; the scalars are a copy, which the next replay does not change."""
        running = running_branches(self.step.method)
        if running != self.running:
            self.graph, self.to_warm_up, self.running = None, WARM_UP, running
        if self.graph is None and self.to_warm_up == 0:
            self._record(index, images)
        if self.graph is None:
            self.to_warm_up -= 1
            return self._eager(index, images)
        self.index.copy_(index)
        self.images.copy_(images)
        self.graph.replay()
        return self.scalars.clone()

    def _eager(self, index: Tensor, images: Tensor) -> Tensor:
        """On the stream of the recording, as torch asks for (CUDA semantics, CUDA graphs)."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            scalars = self.step(index, images)
        current.wait_stream(self.stream)
        return scalars

    def _record(self, index: Tensor, images: Tensor) -> None:
        self.index, self.images = index.clone(), images.clone()
        step, device = self.step, self.stream.device
        default = (g for g in torch.cuda.default_generators if g.device == step.generator.device)
        before = Before(step.method, step.optimizer, [step.generator, *default])
        step.optimizer.zero_grad(set_to_none=True)  # gradients then live in the graph's own memory
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        # By default threads that read images ahead could not pin memory meanwhile, and would spoil it (pytorch 146924).
        recording = torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local")
        try:
            graph.register_generator_state(step.generator)
            # The outer context gives the stream back where the inner one fails as it ends.
            with torch.cuda.stream(self.stream), recording:
                self.scalars = step(self.index, self.images)
        except RuntimeError as error:
            release(graph, pool, device)
            before.restore()
            self.say(told(error, [step.method, *self.running]))
            return
        self.graph = graph


def build_step(config: Config, method: Method, images: Images, labels: NDArray[np.int64] | None = None) -> TrainingStep:
    """A run's step with a fresh optimizer at the peak rate and a fresh stream of views.

    `images`: uint8 `[N, C, H, W]`.
    """
    settings, device = config.optimizer, images.device
    optimizer = build_optimizer(
        method,
        name=settings.name,
        lr=scaled_rate(settings.lr, scaling=settings.scaling, batch_size=config.train.batch_size),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        rates=[*method.rates(), *(rate for branch in active_branches(method) for rate in branch.rates())],
    )
    rates_on_device(optimizer, device)
    generator = torch.Generator(device).manual_seed(stream_seed(config.seed, "views"))
    known = torch.from_numpy(labels).to(device) if method.needs_labels and labels is not None else None
    return TrainingStep(config, method, optimizer, images, generator, known)


def fastest_step(step: TrainingStep, say: Callable[[str], None]) -> TrainingStep | RecordedStep:
    """On a GPU the step with parts that are compiled, and recorded as a CUDA graph, as far as settings and it allow."""
    # Which images a branch adds is known on the device alone, and those that are streamed are not there.
    bring = [type(branch).companions is not Branch.companions for branch in active_branches(step.method)]
    brought = isinstance(step.images, StreamedImages) and any(bring)
    on_gpu, what = step.images.device.type == "cuda", step.config.train.compile
    if on_gpu and what != "off":
        say("the first steps wait for torch.compile; to do without it type: --set train.compile=off")
        step.make = Compiled(step.maker.forward, "views", say)
        step.make_companions = Compiled(step.of_companions.forward, "companions' views", say)
    if on_gpu and what == "encoder":
        compile_networks(step.method, say)
    recordable = on_gpu and not brought
    return RecordedStep(step, say) if recordable and step.config.train.record == "auto" else step
