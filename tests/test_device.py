"""Which device a name is, what a process is set up to, and that fp32 is fp32 whatever the environment says.

The GPUs are faked, but for the last test. Alone: pytest tests/test_device.py
"""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from probekit import device as devices
from probekit.device import allow_tf32, choose_device, compute_deterministically, find_device, has_bf16, with_precision
from tests.forked import SERVER
from tests.train.test_step import configured

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


class Machine:
    """Two GPUs, the second of which alone has units for bfloat16."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = 0
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "set_device", self.set_device)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: ((7, 5), (9, 0))[place.index])
        # What torch itself answers, always about the current device.
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: self.current == 1)

    def set_device(self, place: torch.device) -> None:
        self.current = place.index


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(("name", "index"), [("cuda:1", 1), ("cuda:0", 0), ("cuda", 0), ("auto", 0)])
def test_the_chosen_gpu_is_the_current_one_and_has_an_index(machine: Machine, name: str, index: int) -> None:
    assert choose_device(name) == torch.device("cuda", index)
    assert machine.current == index


def test_a_gpu_without_an_index_is_the_current_one(machine: Machine) -> None:
    machine.current = 1
    assert choose_device("cuda") == torch.device("cuda", 1)


def test_bf16_is_asked_of_the_device_in_question(machine: Machine) -> None:
    assert [has_bf16(torch.device("cuda", index)) for index in (0, 1)] == [False, True]


def test_to_find_a_device_sets_nothing_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cuda, "set_device")
    monkeypatch.delattr(torch.cuda, "current_device")
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda:2", "gpu", "meta"])
def test_an_unknown_device_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*device.* found .*{'2 GPUs' if name == 'cuda:2' else name}"):
        choose_device(name)


def ask(code: str, **environment: str) -> list[str]:
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("override", ["0", "1"])
def test_fp32_is_fp32_whatever_the_environment_says(override: str) -> None:
    """Asked of torch by its old names and, where they exist, its new ones; mixing the two would make it refuse."""
    code = """
import torch
from probekit.device import choose_device
torch.cuda.device_count, torch.cuda.current_device, torch.cuda.set_device = lambda: 1, lambda: 0, lambda place: None
print(torch.get_float32_matmul_precision())
choose_device("cuda")
print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())
if hasattr(torch.backends, "fp32_precision"):
    assert "tf32" not in (torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)
"""
    begun = {"0": "highest", "1": "high"}[override]
    assert ask(code, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=override) == [begun, "False", "False", "highest"]


def test_tf32_is_allowed_for_each_kind_by_itself() -> None:
    seen = []
    try:
        for convolutions, products in ((True, False), (False, True)):
            allow_tf32(convolutions=convolutions, products=products)
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
    finally:
        allow_tf32(convolutions=True, products=False)  # torch's defaults
    assert seen == [(True, False), (False, True)]


def settings_by_device() -> list[tuple[object, ...]]:
    """In a child: torch's settings once computing is deterministic on a CPU, and then on a GPU."""
    torch.backends.cudnn.benchmark = True
    found: list[tuple[object, ...]] = []
    for device in (CPU, torch.device("cuda", 0)):
        with warnings.catch_warnings(action="error"):
            compute_deterministically(device)
        enabled, warns = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        cudnn, fills = torch.backends.cudnn, torch._C._get_deterministic_fill_uninitialized_memory()
        workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        found.append((enabled, warns, cudnn.deterministic, cudnn.benchmark, fills, workspace))
    return found


def test_deterministic_computing_is_torchs_own_and_a_cpu_is_left_alone() -> None:
    with ProcessPoolExecutor(1, mp_context=SERVER) as child:
        cpu, gpu = child.submit(settings_by_device).result()
    assert cpu == (False, False, False, True, True, None)
    assert gpu == (True, False, True, False, False, ":4096:8")


@pytest.mark.parametrize(("units", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_only_where_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, units: bool, expected: str
) -> None:
    monkeypatch.setattr(devices, "has_bf16", lambda device: units)
    assert with_precision(configured(**{"train.precision": "auto"}), CPU).train.precision == expected
    assert with_precision(configured(**{"train.precision": "bf16"}), CPU).train.precision == "bf16"


def test_bf16_units_are_what_the_processor_says() -> None:
    with open("/proc/cpuinfo") as file:
        flags = file.read().split()
    assert has_bf16(CPU) == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_units_that_the_environment_keeps_out_are_not_counted() -> None:
    """bfloat16 would be emulated, 80 times slower."""
    asked = "import torch; from probekit.device import has_bf16; print(has_bf16(torch.device('cpu')))"
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", asked], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
