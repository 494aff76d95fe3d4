"""Where a run stands, and what its steps add up to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


class NonFiniteLossError(ValueError):
    """The loss became infinite or NaN."""


@dataclass
class Progress:
    """Where a run stands: all of it goes into the checkpoint.

    `batch`: finished batches of the epoch that is under way; `begun`: what branches found when it began; `best`: best
    score so far of "best_val" and "best_test".
    """

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)

    def add(self, names: Sequence[str], rows: Sequence[Sequence[float]], first: int, remedy: str) -> None:
        """Adds the scalars of some steps to their sums in this epoch; `first`: the steps done before them.

        A NonFiniteLossError if one is no number, with what to try.
        """
        if self.sums and self.sums.keys() != set(names):  # of a checkpoint that lost some
            raise ValueError(f"expected sums of {', '.join(names)} in the checkpoint, found {', '.join(self.sums)}")
        for step, row in enumerate(rows, first + 1):
            if not all(map(math.isfinite, row)):
                found = ", ".join(f"{k} {v:g}" for k, v in zip(names, row, strict=True))
                raise NonFiniteLossError(f"expected a finite loss, found {found} at step {step}; {remedy}")
            for name, value in zip(names, row, strict=True):
                self.sums[name] = self.sums.get(name, 0.0) + value
