"""`probekit gen --engine slurm`: the shards of a dataset as one job array of Slurm's, a shard a job."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.generate import generate, missing_shards
from probekit.data.locate import check_h5
from probekit.sweep.slurm import check_engine, read_resources, send


@dataclass(frozen=True)
class Draw:
    """A shard as a job, for submitit to call on its node; begun again, it draws it anew, or finds it there."""

    generator: str
    out: Path
    shard: tuple[int, int]
    options: dict[str, Any]

    def __call__(self) -> None:
        """Draws it."""
        generate(self.generator, out=self.out, shard=self.shard, **self.options)

    def checkpoint(self) -> Any:
        """What is requeued where Slurm takes the node away, or the time is over."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_shards(
    generator: str, count: int, out: Path, slurm: list[str], console: Console, **options: Any
) -> dict[str, Any]:
    """Submits what is missing of the shards in the folder `out`, and says so; the number of the job, and the shards.

    `slurm`: what each job asks for, KEY=VALUE; `options`: those of `generate`. A ValueError or an OSError as
    `generate`, and if there is no Slurm, or it refuses.
    """
    check_h5(out)
    resources = read_resources(slurm)
    missing = missing_shards(generator, count, out=out, **options)
    job = None
    if missing:
        check_engine(1, 1, resources)
        works = {f"{index}/{count}": Draw(generator, out.absolute(), (index, count), options) for index in missing}
        there = out.with_name(f"{out.stem}-slurm")
        job = send(there, out.stem, works, resources, gpus=1, nodes=1, device="cpu", at_once=None)
        console.print(f"job {job}: {len(missing):,} of {count:,} shards; what they print is in {there}")
    console.print(f"next, when all are there: probekit show {quote(str(out))} --verify")
    return {"job": job, "shards": missing}
