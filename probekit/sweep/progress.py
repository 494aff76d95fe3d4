"""How far a run of a sweep is, read from its folder."""

from collections.abc import Mapping
from typing import Any

from probekit.measurement import Score
from probekit.probes import SIGNED
from probekit.run import Run
from probekit.sweep.plan import PlannedRun
from probekit.sweep.table import percent


def progress(run: Run, planned: PlannedRun) -> tuple[int, str]:
    """The epochs that are done, and the monitor's latest scores in words."""
    lines = run.read_metrics()
    scored: Mapping[str, Any] = next((line for line in reversed(lines) if "test" in line), {})
    low = -1.0 if planned.config.train.monitor in SIGNED else 0.0
    told = ", ".join(f"{key} {said(Score(scored[key], None, low))}" for key in ("val", "test") if key in scored)
    return (lines[-1]["epoch"] if lines else 0), told


def said(score: Score | None) -> str:
    """In %, or as it is where it may be negative."""
    if score is None or score.value is None:
        return "-"
    return f"{score.value:.2f}" if score.low else f"{percent(score.value)} %"
