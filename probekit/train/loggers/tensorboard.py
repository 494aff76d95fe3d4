"""TensorBoard: events in the run folder."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from probekit.train.loggers.base import Begun, Ending, Logger


class TensorBoard(Logger):
    """One file of events for each process of the run, which TensorBoard reads as one."""

    def __init__(self, begun: Begun) -> None:
        folder = begun.folder / "tensorboard"
        self.writer = SummaryWriter(str(folder))
        self.place = f"{folder}; it is looked at by: tensorboard --logdir {begun.folder.parent}"

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """On the disk at once: a kill loses nothing that metrics.jsonl has."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Channels last, as ours are."""
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self, ending: Ending) -> None:
        """Ends the file."""
        self.writer.close()
