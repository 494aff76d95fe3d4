"""`probekit compare`: runs on the same test images, with tests; the numbers are those of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from probekit.h5 import read_info
from probekit.output.document import Block, Table
from probekit.output.terminal import show_blocks
from probekit.registry import POOLS, nearest
from probekit.report.collect import collect
from probekit.report.comparison import AGAIN, group_section, scores_section
from probekit.report.write import check_once
from probekit.run import Run, open_run


def run_compare(
    names: Sequence[str],
    *,
    data: Path | None,
    protocol: str | None,
    checkpoint: str | None,
    runs: Path,
    console: Console,
    quiet: bool,
) -> dict[str, Any]:
    """Compares the encoders of runs that were probed on the same test images.

    Args:
        names: Two runs or more; RUN@POOL is what a run has under a pooling at test time.
        data: Only results on this dataset file; None is all.
        protocol: Only results of this protocol, "tuned" for example; None is all.
        checkpoint: Only results of this checkpoint; None is all.
        quiet: Leave the tables out.

    Returns:
        {"groups", "scores", "left_out"} as `report.compare.compare` gives them; docs/report.md has the shape.

    Raises:
        ValueError: If there are fewer than two runs, one is named twice, there is no such pooling, or none can be
            compared.
    """
    asked = [_with_pool(name, runs) for name in names]
    opened, pools = [run for run, _ in asked], [pool for _, pool in asked]
    for pool in dict.fromkeys(pools):
        check_once([run for run, own in asked if own == pool])
    if len(opened) < 2:
        raise ValueError(f"expected two runs or more to compare, found {len(opened)}; type: probekit compare RUN RUN")
    wanted = {
        "data_hash": None if data is None else read_info(data).content_hash,
        "protocol": protocol,
        "checkpoint": checkpoint,
    }
    comparison: dict[str, Any] = collect(opened, pools)["comparison"]
    every = {kind: comparison[kind] for kind in ("groups", "scores")}
    chosen = {
        kind: [g for g in found if all(value in (None, g[key]) for key, value in wanted.items())]
        for kind, found in every.items()
    }
    if not any(chosen.values()):
        others = sorted(
            {f"{g['protocol']}, {g['checkpoint']}, on {g['data']}" for found in every.values() for g in found}
        )
        told = "; ".join(others) or "; ".join(comparison["left_out"]) or "nothing in common"
        raise ValueError(f"expected results of two of these runs on the same test images, found: {told}")
    if not quiet:
        _show(chosen, console)
        for line in comparison["left_out"]:
            console.print(f"note: {line}")
    return {**chosen, "left_out": comparison["left_out"]}


def _show(chosen: Mapping[str, Sequence[Mapping[str, Any]]], console: Console) -> None:
    sections = [group_section(group, "compare") for group in chosen["groups"]]
    for section in (*sections, *(scores_section(group, "compare") for group in chosen["scores"])):
        console.rule(section.title)
        show_blocks([_here(block) for block in section.blocks], console)


def _here(block: Block) -> Block:
    """Without what is said of a report's head, which a terminal has not."""
    return replace(block, how=block.how.removesuffix(AGAIN).rstrip()) if isinstance(block, Table) else block


def _with_pool(name: str, runs: Path) -> tuple[Run, str | None]:
    """RUN or RUN@POOL; a run whose own name has an "@" is that run."""
    stem, at, pool = name.rpartition("@")
    if not at or (runs / name).exists() or Path(name).exists():
        return open_run(name, runs), None
    if pool not in POOLS:
        raise ValueError(nearest("pooling", pool, POOLS))
    return open_run(stem, runs), pool
