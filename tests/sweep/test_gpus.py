"""A sweep on a machine with several GPUs: which ones it takes, and that a job goes where fewest are.

Alone: pytest tests/sweep/test_gpus.py
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from probekit.sweep import jobs
from probekit.sweep import start as command
from probekit.sweep.jobs import Job, run_jobs
from probekit.sweep.session import Session
from tests.sweep.test_breaks import ASK, FILE, sweep


@pytest.mark.parametrize(
    ("device", "visible", "found", "expected"),
    [
        ("auto", None, 3, ["0", "1", "2"]),
        ("cuda", None, 2, ["0", "1"]),
        ("auto", "6, 2", 2, ["6", "2"]),
        ("auto", "GPU-8932f937,GPU-11111111", 2, ["GPU-8932f937", "GPU-11111111"]),
        ("auto", "1,-1,0", 1, ["1"]),  # CUDA's guide: those before the first unknown one are seen
        ("auto", "MIG-a,MIG-b", 1, ["MIG-a", "MIG-b"]),  # a process sees one of them, whatever is listed
        ("cuda:1", None, 2, []),
        ("cuda:1", "6,2", 2, []),
        ("auto", "", 0, []),
        ("auto", None, 0, []),
        ("cpu", None, 2, []),
    ],
)
def test_every_gpu_that_is_to_be_seen_is_used(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, found: int, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert command._gpus(device, 1) == expected


def test_runs_of_several_gpus_share_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert command._gpus("cuda", 2) == ["0,1", "2,3"]
    with pytest.raises(ValueError, match="expected 8 GPUs, as the file has gpus = 8, found 5"):
        command._gpus("cuda", 8)


@pytest.mark.parametrize(
    ("device", "gpus", "typed", "at_once", "threads"),
    [
        ("auto", ["0", "1", "2"], None, 3, 4),
        ("auto", ["0", "1", "2"], 6, 6, 2),
        ("cuda:1", [], None, 1, 12),
        ("cuda:1", [], 2, 2, 6),
        ("cpu", [], None, 8, 1),
    ],
)
def test_one_run_a_gpu_unless_asked(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: list[str], typed: int | None, at_once: int, threads: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(command, "cores", lambda: 12)
    session = cast(Session, SimpleNamespace(device=device, left=range(40)))
    assert command._share(session, typed, gpus) == (at_once, threads)


class Child:
    """A process that ends when told."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, number: int) -> None: ...


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, Child]]:
    """Name of a job -> the GPU of its latest process, and that process."""
    found: dict[str, tuple[str, Child]] = {}

    def start(ask: list[str], log: Path, environment: Mapping[str, str], several: object) -> Any:
        found[log.stem] = environment["GPU"], Child()
        return found[log.stem][1]

    monkeypatch.setattr(jobs, "start", start)
    monkeypatch.setattr(jobs, "POLL", 0.0)
    return found


def run(folder: Path, names: list[str], begun: dict[str, tuple[str, Child]], *, at_once: int, ends: list[str]) -> None:
    """Runs jobs of two commands each on two GPUs; they end in this order, command by command."""
    left = list(ends)

    def job(name: str) -> Job:
        commands = iter(["pretrain", "probe"])
        return Job(name, folder / f"{name}.log", lambda: [c] if (c := next(commands, None)) else None)

    def show(active: Any, waiting: int) -> None:
        if left and left[0] in begun:
            begun[left.pop(0)][1].code = 0

    places = [{"GPU": "0"}, {"GPU": "1"}]
    run_jobs(
        map(job, names),
        at_once=at_once,
        places=places,
        deadline=math.inf,
        ended=lambda job, outcome: (),
        show=show,
        stopping=lambda reason: None,
    )


@pytest.mark.parametrize(
    ("at_once", "ends", "expected"),
    [
        (2, "bbccaa", {"a": "0", "b": "1", "c": "1"}),  # to the GPU that is free again
        (2, "aaccbb", {"a": "0", "b": "1", "c": "0"}),
        (2, "ababcc", {"a": "0", "b": "1", "c": "0"}),  # a job's commands stay where it began
        (4, "aabbddeecc", {"a": "0", "b": "1", "c": "0", "d": "1", "e": "0"}),
        (4, "bbddaaccee", {"a": "0", "b": "1", "c": "0", "d": "1", "e": "1"}),
    ],
)
def test_a_job_goes_to_the_gpu_with_fewest(
    tmp_path: Path, begun: dict[str, tuple[str, Child]], at_once: int, ends: str, expected: dict[str, str]
) -> None:
    run(tmp_path, sorted(expected), begun, at_once=at_once, ends=list(ends))
    assert {name: gpu for name, (gpu, _) in begun.items()} == expected


def test_children_see_one_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.toml").write_text(FILE)
    monkeypatch.setenv("STUB_GPUS", "3 GPU-11111111")
    code, _, err = sweep("s.toml", *ASK, cwd=tmp_path)
    assert (code, err) == (0, "")
    seen = {log.stem: re.findall(r"on GPU (\S+)", log.read_text()) for log in tmp_path.glob("sweeps/s/logs/*.log")}
    assert {gpu for gpus in seen.values() for gpu in gpus} == {"3", "GPU-11111111"}
    assert all(len(set(gpus)) == 1 for gpus in seen.values())  # pretrain and probes of a run


def test_without_gpus_the_children_see_what_this_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.toml").write_text(FILE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    code, _, err = sweep("s.toml", *ASK, cwd=tmp_path)
    assert (code, err) == (0, "")
    logs = [log.read_text() for log in tmp_path.glob("sweeps/s/logs/*.log")]
    assert {gpu for log in logs for gpu in re.findall(r"on GPU (\S+)", log)} == {"5"}
