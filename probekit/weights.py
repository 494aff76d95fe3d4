"""Which weights of a run are meant, and how their feature map is pooled: "last", or "last@gap"."""

from dataclasses import dataclass
from pathlib import Path

from probekit.registry import POOLS, nearest

RANDOM = "random weights"  # what untrained ones are called in every table
ENCODER_FILE = "encoder.safetensors"  # of a run's last epoch
KEPT = "epoch-"  # begins the names of encoders that are kept for good


@dataclass(frozen=True)
class Weights:
    """Weights of a run. Prints as results name it, "last" or "last@gap", and `parse` reads that.

    `checkpoint`: "last", "best_val", "best_test" or "epoch-NNNN"; `pool`: one of `POOLS` in place of the encoder's own
    pooling; None is its own. A ValueError if there is no such pooling.
    """

    checkpoint: str = "last"
    pool: str | None = None

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool not in POOLS:
            raise ValueError(nearest("pooling", self.pool, POOLS))

    def __str__(self) -> str:
        return self.checkpoint if self.pool is None else f"{self.checkpoint}@{self.pool}"

    @classmethod
    def parse(cls, text: str, pool: str | None = None) -> "Weights":
        """The inverse of `str`; a `pool` takes the place of the one in the text."""
        checkpoint, _, own = text.partition("@")
        return cls(checkpoint, pool or own or None)

    def file(self, run: Path) -> Path:
        """Where a run folder holds them: an encoder alone has a file of its own, others stand in a whole checkpoint."""
        if self.checkpoint == "last":
            return run / ENCODER_FILE
        return run / "checkpoints" / f"{self.checkpoint}.{'safetensors' if self.only_encoder else 'pt'}"

    @property
    def only_encoder(self) -> bool:
        """Whether no more than the encoder was kept with them: no head, no branch, no decoder."""
        return self.checkpoint.startswith(KEPT)


LAST = Weights()


def kept_checkpoints(run: Path) -> list[str]:
    """Names of the encoders that a run folder kept on its way (`train.keep_every`), the earliest first."""
    names = (path.stem for path in (run / "checkpoints").glob(f"{KEPT}*.safetensors"))
    return sorted(names, key=lambda name: (len(name), name))  # epoch 10000 has a digit more
