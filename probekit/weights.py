"""Which weights of a run are meant, and what of the network is read: "last", "last@gap", "last:blocks.6@cls"."""

from dataclasses import dataclass
from pathlib import Path

from probekit.registry import POOLS, nearest

RANDOM = "random weights"  # what untrained ones are called in every table
ENCODER_FILE = "encoder.safetensors"  # of a run's last epoch
ATTENTIVE = "attentive"  # a pooling that is trained with the labels: a measurement
ALL_LAYERS = "all"  # of --layer: a measurement of each
KEPT = "epoch-"  # begins the names of encoders that are kept for good


@dataclass(frozen=True)
class Weights:
    """Weights of a run, and what of the network is read.

    Prints as results name it, and `parse` reads that: "last", "last@gap", "last:blocks.6@cls". `checkpoint`: "last",
    "best_val", "best_test" or "epoch-NNNN"; `pool`: one of `POOLS` in place of the encoder's own pooling; None is its
    own; `layer`: the name of a layer, or its number before the encoder is opened; None is what the encoder gives.
    A ValueError if there is no such pooling, or it pools no layer by name, or a layer's name has an "@".
    """

    checkpoint: str = "last"
    pool: str | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        if self.pool == ATTENTIVE:
            raise ValueError(
                f"expected a pooling that is not trained, found {ATTENTIVE}, a probe of its own; "
                "type: probekit probe RUN --attentive shared"
            )
        if self.pool is not None and self.pool not in POOLS:
            raise ValueError(nearest("pooling", self.pool, POOLS))
        if self.layer is None:
            return
        if not self.layer or "@" in self.layer:
            raise ValueError(f"expected the name or number of a layer, without an @, found {self.layer!r}")
        if self.pool is not None and not POOLS[self.pool].of_layers:
            known = ", ".join(name for name, pool in POOLS.items() if pool.of_layers)
            raise ValueError(f"expected --pool {known} with --layer {self.layer}, found {self.pool}")

    def __str__(self) -> str:
        return f"{self.checkpoint}{self.reading}"

    @property
    def reading(self) -> str:
        """What of the network is read, as it stands behind the checkpoint: "", "@gap", ":blocks.6@cls"."""
        layer = "" if self.layer is None else f":{self.layer}"
        return layer if self.pool is None else f"{layer}@{self.pool}"

    @property
    def words(self) -> list[str]:
        """What is typed for that reading."""
        layer = [] if self.layer is None else ["--layer", self.layer]
        return layer if self.pool is None else [*layer, "--pool", self.pool]

    @property
    def of_layers(self) -> bool:
        """Whether other features are read than those that the encoder gives, so that its layers must be found."""
        return self.layer is not None or (self.pool is not None and POOLS[self.pool].of_tokens)

    @classmethod
    def parse(cls, text: str, pool: str | None = None, layer: str | None = None) -> "Weights":
        """The inverse of `str`; a `pool` and a `layer` take the place of those in the text."""
        front, _, own = text.partition("@")
        checkpoint, _, named = front.partition(":")
        return cls(checkpoint, pool or own or None, layer or named or None)

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
