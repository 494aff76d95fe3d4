"""A sweep on a Slurm cluster: one job array, a run a job, through submitit. docs/scale.md, "Sweeps on a cluster".

What waits and what runs is asked of Slurm, what is done of the run folders. Beside them a submission keeps a folder,
sweeps/NAME/slurm/JOB/, which says of which run each job of the array is, and has what these print.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict, cast

from probekit.checked import checked, shorten
from probekit.files import read_json
from probekit.registry import check_named
from probekit.run import Run, numbered, write_json
from probekit.sweep.jobs import child_environment
from probekit.sweep.plan import PlannedRun, next_baselines
from probekit.sweep.session import Session
from probekit.sweep.work import Work

RUNS = "runs.json"  # the names of the runs of an array's jobs, by their index
WARN = 120  # seconds before its time limit at which a job is told to save, or a quarter of a short limit
PATIENCE = 60  # seconds for an answer of Slurm's
TEXT, COUNT, GPUS, MEMORY = "text", "a whole number above 0", "a number of GPUs, as 4 or a100:4", "as 64G"
KEYS = {  # of --slurm, by the names that sbatch has for them
    "account": TEXT,
    "constraint": TEXT,
    "cpus_per_gpu": COUNT,
    "cpus_per_task": COUNT,
    "exclude": TEXT,
    "exclusive": TEXT,
    "gpus_per_node": GPUS,
    "gres": TEXT,
    "licenses": TEXT,
    "mail_type": TEXT,
    "mail_user": TEXT,
    "mem": MEMORY,
    "mem_per_cpu": MEMORY,
    "mem_per_gpu": MEMORY,
    "nodelist": TEXT,
    "partition": TEXT,
    "qos": TEXT,
    "reservation": TEXT,
    "setup": TEXT,  # a line of shell before the run, as "module load cuda"; may be repeated
    "time": "as 4:00:00, 1-12:00:00 or, in minutes, 90",
    "wckey": TEXT,
}
PATTERNS = {
    TEXT: re.compile(r"[^\x00-\x1f\x7f]+"),
    COUNT: re.compile(r"0*[1-9]\d{0,8}"),
    GPUS: re.compile(r"([\w.+-]+:)?0*[1-9]\d{0,5}"),
    MEMORY: re.compile(r"\d{1,12}[KMGT]?B?", re.IGNORECASE),
}
TIME = re.compile(r"(?:(\d{1,4})-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?|(\d{1,6})(?::(\d{1,2}))?(?::(\d{1,2}))?)")


@dataclass(frozen=True)
class Resources:
    """What each job asks for."""

    minutes: int  # its time limit
    options: Mapping[str, str]  # the other keys of `KEYS`
    setup: tuple[str, ...] = ()

    @property
    def gpus(self) -> int | None:
        """GPUs of a node, None where only Slurm knows."""
        asked = self.options.get("gpus_per_node")
        return None if asked is None else int(asked.rpartition(":")[2])

    @property
    def has_gpus(self) -> bool:
        """Whether it asks for any."""
        return self.gpus is not None or "gpu" in self.options.get("gres", "")


class Submission(TypedDict):
    """What `RUNS` holds."""

    runs: tuple[str, ...]


@dataclass(frozen=True)
class Queued:
    """A job that Slurm has."""

    job: str  # ARRAY_INDEX
    state: str  # Slurm's, as PENDING
    where: str  # its node, or why it waits


def read_resources(words: Sequence[str]) -> Resources:
    """What `--slurm KEY=VALUE` asks for; a ValueError for what sbatch could not be given, or without a time limit."""
    found, setup = dict[str, str](), list[str]()
    for word in words:
        key, given, value = (part.strip() for part in word.partition("="))
        key = key.removeprefix("--").replace("-", "_")
        if not given:
            raise ValueError(f"expected --slurm KEY=VALUE, found {word!r}; type: --slurm time=4:00:00")
        check_named("key of --slurm", key, KEYS)
        if not (TIME if key == "time" else PATTERNS[KEYS[key]]).fullmatch(value):
            raise ValueError(f"expected --slurm {key}=VALUE, {KEYS[key]}, found {value!r}")
        if key == "setup":
            setup.append(value)
        elif found.setdefault(key, value) != value:
            raise ValueError(f"expected --slurm {key} once, found {found[key]} and {value}")
    if "time" not in found:
        raise ValueError("expected the time limit of a run's job with --engine slurm; type: --slurm time=4:00:00")
    return Resources(_minutes(found.pop("time")), found, tuple(setup))


def _minutes(text: str) -> int:
    """A time limit as sbatch reads it, in whole minutes."""
    matched = TIME.fullmatch(text)
    assert matched is not None
    days, hours, more, seconds, first, second, third = (int(part or 0) for part in matched.groups())
    if "-" in text:
        found = 1440 * days + 60 * hours + more + (seconds > 0)
    elif matched[7] is not None:
        found = 60 * first + second + (third > 0)
    else:
        found = first + (second > 0)
    if not found:
        raise ValueError(f"expected --slurm time={text} of a minute at least; type: --slurm time=4:00:00")
    return found


def check_engine(gpus: int, nodes: int, resources: Resources) -> None:
    """Refuses to submit where nothing can be submitted, or to jobs with fewer GPUs than a run needs."""
    _submitit()
    if shutil.which("sbatch") is None:
        raise ValueError(
            "expected sbatch on the PATH for --engine slurm, found none; go to a machine that submits to the "
            "cluster, or leave --engine out"
        )
    each = gpus // nodes
    if resources.gpus is not None and resources.gpus < each:
        raise ValueError(
            f"expected --slurm gpus_per_node of {each} at least, as the file has gpus = {gpus} over {nodes} "
            f"nodes, found {resources.gpus}; type: --slurm gpus_per_node={each}"
        )


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ValueError(
            "expected submitit for --engine slurm, found none; type: pip install 'submitit>=1.5'"
        ) from error
    return submitit


def queued(folder: Path) -> dict[str, Queued]:
    """The jobs that Slurm has of a sweep's submissions, by run; a ValueError if it does not answer."""
    names = {path.parent.name: path for path in sorted((folder / "slurm").glob(f"*/{RUNS}"))}
    if not names or shutil.which("squeue") is None:
        return {}
    form = "%F|%K|%T|%j|%N|%r"
    lines = _ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", f"--format={form}").splitlines()
    found = {}
    for line in lines:
        if line.count("|") < form.count("|"):
            raise ValueError(f"expected jobs as {form} of squeue, found: {shorten(line)}")
        array, index, state, name, node, reason = line.split("|", 5)
        place = int(index) if index.isdecimal() else 0  # a single run is no array
        runs = _submitted(names[name]) if name in names else ()
        if place < len(runs):
            job = f"{array}_{index}" if index.isdecimal() else array
            found[runs[place]] = Queued(job, state, node or reason)
    return found


def _submitted(path: Path) -> tuple[str, ...]:
    """The runs of an array's jobs, by their index; a ValueError if the file that says so is damaged."""
    try:
        return cast(Submission, checked(read_json(path), Submission, str(path)))["runs"]
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{error}; wait until its jobs are over, or end them: scancel --name {path.parent.name}"
        ) from error


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"expected an answer of {command[0]}, found: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ValueError(f"expected an answer of {command[0]}, found: {said}")
    return done.stdout


def due(session: Session) -> list[PlannedRun]:
    """The runs that a job is needed for: what they, or the baselines of a dataset whose first they are, still lack."""
    left, first = {run.name for run in session.left}, _firsts(session)

    def lacks(run: PlannedRun) -> bool:
        return next_baselines(Run(session.runs / run.name), run, device=session.device) is not None

    return [run for run in session.chosen.values() if run.name in left or (run.name in first and lacks(run))]


def _firsts(session: Session) -> set[str]:
    """The first run of each dataset, whose job measures the baselines, too."""
    found: dict[str, str] = {}
    for run in session.chosen.values():
        found.setdefault(run.dataset, run.name)
    return set(found.values())


def submit(session: Session, runs: Sequence[PlannedRun], resources: Resources, *, at_once: int | None) -> str:
    """Submits one job array, a job a run, and leaves it to Slurm; its number.

    `at_once`: jobs that may run at the same time, None for as many as Slurm lets. A ValueError if sbatch refuses.
    """
    first = _firsts(session)
    works = {
        run.name: Work(
            run,
            session.folder,
            session.runs,
            session.data[run.dataset].path,
            session.device,
            baselines=run.name in first,
            minutes=resources.minutes,
        )
        for run in runs
    }
    each: dict[str, Any] = {"gpus": runs[0].gpus, "nodes": runs[0].nodes, "device": session.device, "at_once": at_once}
    return send(session.folder.path / "slurm", session.folder.path.name, works, resources, **each)


def send(
    there: Path,
    name: str,
    works: Mapping[str, Callable[[], None]],
    resources: Resources,
    *,
    gpus: int,
    nodes: int,
    device: str,
    at_once: int | None,
) -> str:
    """Submits one job array, a job for each of `works`, and leaves it to Slurm; its number.

    What it prints is in a folder of its own in `there`. A ValueError if sbatch refuses.
    """
    stem = f"{name}-{datetime.now():%m%d-%H%M%S}"
    name = next(name for name in numbered(stem) if not (there / name).exists())
    (there / name).mkdir(parents=True)
    write_json(there / name / RUNS, {"runs": list(works)})  # before there is a job of that name
    executor = _submitit().SlurmExecutor(folder=there / name)
    executor.update_parameters(**_parameters(name, gpus, nodes, resources, device, at_once))
    said = io.StringIO()
    try:
        with _outside(), contextlib.redirect_stderr(said):
            jobs = executor.submit_array(list(works.values()))
    except Exception as error:  # submitit's own kinds
        shutil.rmtree(there / name)
        told = (str(error).strip() or said.getvalue().strip()).splitlines() or [type(error).__name__]
        raise ValueError(f"expected sbatch to take the jobs, found: {told[-1]}") from error
    for link in (there / name).glob(".submission_file_*"):  # submitit's, to the script beside it, by its whole path
        link.unlink()
    return str(jobs[0].job_id).partition("_")[0]


def _parameters(
    name: str, gpus: int, nodes: int, resources: Resources, device: str, at_once: int | None
) -> dict[str, Any]:
    """What submitit is asked for."""
    ours, each = dict(resources.options), gpus // nodes
    if gpus > 1 and device != "cpu" and not resources.has_gpus:
        ours["gpus_per_node"] = str(each)
    beside = {
        key: ours.pop(key) for key in ("licenses", "reservation") if key in ours
    }  # that submitit has no names for
    path = child_environment(threads=1).get("PYTHONPATH", "")
    return {
        **ours,
        "job_name": name,
        "time": resources.minutes,
        "nodes": nodes,
        "ntasks_per_node": 1,
        "signal_delay_s": min(WARN, 15 * resources.minutes),
        "setup": [f"export PYTHONPATH={shlex.quote(path)}"] * bool(path) + list(resources.setup),
        # srun takes no --cpus-per-task of sbatch since Slurm 22.05
        "srun_args": [f"--cpus-per-task={ours['cpus_per_task']}"] if "cpus_per_task" in ours else [],
        "additional_parameters": {"requeue": True, **beside},
        **({} if at_once is None else {"array_parallelism": at_once}),
    }


@contextlib.contextmanager
def _outside() -> Iterator[None]:
    """Without what the environment says of a job that this process may be part of: new ones would inherit it."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    kept = {key: value for key, value in os.environ.items() if key == "SLURM_CONF"}
    with _submitit().helpers.clean_env():
        os.environ.update(kept)
        yield
