"""Weights & Biases, as the user has configured it: with WANDB_MODE=offline it is kept here, to be sent later.

Its files are in ./wandb or WANDB_DIR, not in the run folder, out of which no link may lead: it makes some.
"""

import os
import uuid
from collections.abc import Mapping

import numpy as np
import wandb
from numpy.typing import NDArray

from probekit.train.loggers.base import Begun, Ending, Logger

PROJECT = "probekit"  # unless WANDB_PROJECT names another


class WandB(Logger):
    """A run of the same name; resumed, it is the same run there, by its id."""

    def __init__(self, begun: Begun) -> None:
        self.key = begun.key or uuid.uuid4().hex[:8]
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.key,
            resume="allow",
            name=begun.name,
            config=dict(begun.settings),
            settings=wandb.Settings(console="off", reinit="create_new"),  # what is printed is the terminal's
        )
        local = f"{self.run.settings.sync_dir}; it is sent by: wandb sync {self.run.settings.sync_dir}"
        self.place = self.run.url or local

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """All of a step at once."""
        self.run.log(dict(numbers), step=step)

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """With the numbers of the same step."""
        self.run.log({name: wandb.Image(pixels)}, step=step)

    def close(self, ending: Ending) -> None:
        """Waits until all is sent, or written."""
        self.run.finish(exit_code=0 if ending == "finished" else 1)
