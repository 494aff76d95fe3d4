"""The runs of a sweep as this machine resolves them: what a row's method refuses is refused before anything runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from probekit.sweep.measures import Measure
from probekit.sweep.plan import PlannedRun

if TYPE_CHECKING:
    from probekit.methods.base import Method


def built(planned: Sequence[PlannedRun], device: str) -> tuple[PlannedRun, ...]:
    """The runs as `pretrain` would resolve them there, each measured under the poolings that its row allows.

    Every row's method is built once, without memory: what its constructor refuses is refused before anything runs.
    """
    import torch

    from probekit.device import find_device, with_precision
    from probekit.restore.build import build_method, with_normalise

    place, pools = find_device(device), dict[tuple[str, ...], list[str]]()
    planned = [replace(run, config=with_normalise(with_precision(run.config, place))) for run in planned]
    wanted = list(dict.fromkeys(pool for run in planned for pool in run.measure.pools))
    for key, run in {_key(run): run for run in planned}.items():
        try:
            with torch.device("meta"):
                method = build_method(run.config, channels=1)
        except ValueError as error:
            raise ValueError(f"{error} (row {run.row.name})") from error
        pools[key] = _allowed(method, wanted)
    for pool in wanted:
        if not any(pool in allowed for allowed in pools.values()):
            raise ValueError(f"expected pools in [measure] that a row can pool with, found {pool!r}, which none can")
    return tuple(replace(run, measure=_under(run.measure, pools[_key(run)])) for run in planned)


def _key(run: PlannedRun) -> tuple[str, ...]:
    """Runs of one key have one method: a row with the settings of a dataset."""
    return run.row.name, *run.row.settings


def _under(measure: Measure, allowed: Sequence[str]) -> Measure:
    return replace(measure, pools=tuple(pool for pool in measure.pools if pool in allowed))


def _allowed(method: "Method", pools: Sequence[str]) -> list[str]:
    """Those poolings that a method and its branches have."""
    from probekit.branches.base import branches_of
    from probekit.restore.pooled import Parts, pooling

    found = []
    for pool in pools if method.encoder.has_map else ():
        with suppress(ValueError):
            pooling(pool, method.encoder, Parts(branches_of(method), method.projection))
            found.append(pool)
    return found
