"""`probekit sweep NAME --status`: where every run stands, read from its folder and, of a cluster's jobs, from Slurm."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from probekit.locks import holder
from probekit.run import WORK, Run
from probekit.sweep.jobs import last_line
from probekit.sweep.plan import PlannedRun
from probekit.sweep.progress import progress
from probekit.sweep.session import Session
from probekit.sweep.slurm import Queued

WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "RESV_DEL_HOLD", "SPECIAL_EXIT")  # of Slurm's states


@dataclass(frozen=True)
class Standing:
    """Where a run stands."""

    name: str
    state: str  # finished, running, queued, failed, interrupted or not begun
    epoch: int
    epochs: int
    monitor: str  # its latest scores, in words
    where: str  # who is at it, why it waits, or the last line of a log


def standings(session: Session, queued: Mapping[str, Queued]) -> list[Standing]:
    """Every planned run; `queued`: the jobs that Slurm has, by run."""
    return [_standing(session, run, queued.get(run.name)) for run in session.planned]


def _standing(session: Session, planned: PlannedRun, job: Queued | None) -> Standing:
    run = Run(session.runs / planned.name)
    epoch, monitor = progress(run, planned)
    state, where = _state(session, run, planned, job)
    return Standing(planned.name, state, epoch, planned.epochs, monitor, where)


def _state(session: Session, run: Run, planned: PlannedRun, job: Queued | None) -> tuple[str, str]:
    who = next((who for work in WORK if (who := holder(run.lock(work)))), None)
    told = "" if job is None else f"job {job.job}, {job.where}"
    if who is not None:
        return "running", "; ".join(filter(None, (told, who.partition(" (")[0])))
    if job is not None:
        return ("queued" if job.state in WAITING else "running"), told
    if session.is_done(planned):
        return "finished", ""
    if not run.json.exists():
        return "not begun", ""
    state = run.read()["state"]
    if state in ("failed", "interrupted"):
        return state, last_line(session.folder.log(planned.name))
    return "unfinished", ""  # trained, and not measured


def table(found: list[Standing]) -> Table:
    """For a terminal."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("run", "state", "epoch", "monitor", "where"):
        made.add_column(head, no_wrap=head != "where")
    for each in found:
        cells = (each.name, each.state, f"{each.epoch}/{each.epochs}", each.monitor, each.where)
        made.add_row(*map(Text, cells))
    return made
