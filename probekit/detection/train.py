"""One training of a detector, which goes on where it was interrupted, and what it finds in the test images."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.detection.model import weights_of
from probekit.detection.pictures import Batches, Pictures
from probekit.detection.protocol import MOMENTUM, Recipe
from probekit.device import told
from probekit.files import replaced_file
from probekit.h5.objects import Runs, runs_of
from probekit.models.tensor_files import read_torch
from probekit.restore.build import stream_seed

EVERY = 60.0  # seconds from one kept state to the next: what a kill costs at most
SURE = 0.5  # of a pixel of a mask: Mask R-CNN, section 3.1
REMEDY = "type: --preset quick, or --device cpu"

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """What a detector finds in an image: boxes `[n, 4]`, labels `[n]` from 0, scores `[n]`, the runs of each mask.

    Not the masks themselves: those of COCO's 5,000 test images would take 150 GB.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: tuple[Runs, ...] | None


@contextmanager
def drawn(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own generators, which torchvision draws from, begin here at a seed, and are as they were behind."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Training:
    """A training of one seed."""

    make: Callable[[], nn.Module]  # builds the detector, its new weights drawn from torch's generator
    recipe: Recipe
    seed: int
    device: torch.device
    kept: Path  # the file of its state while it is not finished

    def run(self, batches: Batches, advance: Advance) -> tuple[nn.Module, float]:
        """Trains it to its end; the detector, and the mean loss of the last tenth of its steps.

        A ValueError if its loss is no number any more, or it does not fit into the device's memory.
        """
        with drawn(stream_seed(self.seed, "detect", "weights"), self.device):
            detector = self.make().to(self.device)
        groups = weights_of(detector, self.recipe.decay)
        optimizer = torch.optim.SGD(groups, lr=self.recipe.rate, momentum=MOMENTUM)
        first, losses = self._resume(detector, optimizer)
        saved = time.monotonic()
        for step, (images, targets) in enumerate(batches.ahead(first, self.recipe.steps), first):
            losses = [*losses, self._step(detector, optimizer, step, images, targets)][-self.recipe.steps // 10 :]
            advance(step + 1, self.recipe.steps)
            if time.monotonic() - saved > EVERY:
                self._keep(detector, optimizer, step + 1, losses)
                saved = time.monotonic()
        return detector, float(np.mean(losses))

    def _step(
        self,
        detector: nn.Module,
        optimizer: torch.optim.SGD,
        step: int,
        images: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> float:
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(step)
        on_device = [image.to(self.device) for image in images]
        wanted = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        what = f"a detector and a batch of {len(images)} images"
        with told(what, self.device, REMEDY), drawn(stream_seed(self.seed, "detect", "step", step), self.device):
            loss = torch.stack(list(detector(on_device, wanted).values())).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = float(loss.detach())
        if not math.isfinite(found):
            raise ValueError(f"expected a finite loss, found {found} at step {step + 1}: the training diverged")
        return found

    def _keep(self, detector: nn.Module, optimizer: torch.optim.SGD, step: int, losses: list[float]) -> None:
        state = {"step": step, "losses": losses, "detector": detector.state_dict(), "optimizer": optimizer.state_dict()}
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(self.kept) as file:
            torch.save(state, file)

    def _resume(self, detector: nn.Module, optimizer: torch.optim.SGD) -> tuple[int, list[float]]:
        """Takes up what was kept: the steps that are done, and their latest losses; a ValueError if it is damaged."""
        if not self.kept.exists():
            return 0, []
        with suppress(ValueError, KeyError, RuntimeError, TypeError, AttributeError):
            state: dict[str, Any] = read_torch(self.kept, self.device)
            detector.load_state_dict(state["detector"])
            optimizer.load_state_dict(state["optimizer"])
            return int(state["step"]), list(state["losses"])
        raise ValueError(f"expected the state of a training in {self.kept}, found another; remove it")


@torch.no_grad()
def find(
    detector: nn.Module, pictures: Pictures, recipe: Recipe, device: torch.device, advance: Advance
) -> list[Found]:
    """What a detector finds in each image of a split."""
    detector.eval()
    transform: Any = detector.transform
    found: list[Found] = []
    step = recipe.batch if recipe.test_scale else 1
    for begin in range(0, len(pictures), step):
        images = [pictures.image(row).to(device) for row in range(begin, min(begin + step, len(pictures)))]
        transform.min_size = (recipe.test_scale or min(images[0].shape[1:]),)
        for each in detector(images):
            masks = (each["masks"][:, 0] > SURE).cpu().numpy() if recipe.masked else None
            found.append(
                Found(
                    each["boxes"].cpu().numpy(),
                    each["labels"].cpu().numpy() - 1,
                    each["scores"].cpu().numpy(),
                    None if masks is None else tuple(map(runs_of, masks)),
                )
            )
        advance(len(found), len(pictures))
    return found
