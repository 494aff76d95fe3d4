"""When a run reads its scalars, saves, and stops: by the clock of one process, and of several by one clock for all."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from probekit import ranks

READ_EVERY = 50  # steps between reads of the device's loss buffer: each read waits for the device
READ_AFTER = 10.0  # seconds after which it is read all the same: slow runs should show that they move
SAVE_EVERY = 60.0  # seconds: what a kill can cost
AGREE_AFTER = 2.0  # seconds from one time that several processes ask whether one was told to stop to the next


@dataclass(frozen=True)
class Due:
    """What is to be done after a step, in all processes alike."""

    stop: bool = False
    read: bool = False
    save: bool = False


@dataclass
class Pace:
    """Says what is due. A process that asked its own clock or signals would wait for the others' collectives forever.

    `every`: steps from one agreement of several processes to the next, the same in all.
    """

    saved_at: float = field(default_factory=time.monotonic)
    read_at: float = field(default_factory=time.monotonic)
    every: int = 1

    def due(self, waiting: int, stopped: Sequence[int], *, last: bool) -> Due:
        """After a step: `waiting`, scalars of so many steps; `stopped`: signals; `last`: of the epoch."""
        now = time.monotonic()
        save = now - self.saved_at > SAVE_EVERY
        if ranks.size() == 1:
            read = last or waiting >= READ_EVERY or now - self.read_at >= READ_AFTER
            return Due(bool(stopped), read, save and read)
        if not last and waiting < min(self.every, READ_EVERY):
            return Due()
        rate = waiting / max(now - self.read_at, 1e-9)
        first = ranks.is_first()
        stop, save_now, every = ranks.largest(bool(stopped), first and save, first and max(1, rate * AGREE_AFTER))
        self.every = int(every)
        return Due(bool(stop), True, bool(save_now))
