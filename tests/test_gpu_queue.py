"""benchmarks/gpu/first.sh: without a GPU it says so; with one it ends well whatever its parts do, and with a table.

Alone: pytest tests/test_gpu_queue.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.table import table

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu" / "first.sh"
STUB = """#!{python}
import json, os, sys, time
arguments = sys.argv[1:]
if arguments[0] == "-c" and "torch" in arguments[1]:
    sys.exit(0)  # "there is a GPU"
if arguments[0] == "-c" or arguments[:2] == ["-m", "benchmarks.gpu.table"]:
    os.execv({python!r}, [{python!r}, *arguments])
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(arguments) + "\\n")
if "byol" in arguments:
    sys.exit(3)
if "--dry-run" in arguments:
    print("a line for the reader", file=sys.stderr)
    if "conrec" in arguments:
        sys.exit(1)
    row = {{"measured": {{"ms": 3.0}}, "machines": [{{"machine": "here", "predicted_ms": 2.0, "floor_ms": 0.5}}]}}
    print(json.dumps(row, indent=2))
if arguments[-1] == "swav" or "cannot" in arguments:
    print("the step cannot be recorded as a CUDA graph")
"""


def test_without_a_gpu_it_says_so() -> None:
    if _has_gpu():
        pytest.skip("there is a GPU")
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "no GPU\n")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def test_parts_that_fail_leave_the_others_and_the_table(tmp_path: Path) -> None:
    stub, out, calls = tmp_path / "python", tmp_path / "out", tmp_path / "calls"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    environment = os.environ | {"PYTHON": str(stub), "OUT": str(out), "CALLS": str(calls)}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    asked = [json.loads(line) for line in calls.read_text().splitlines()]
    for method in ("conrec", "moco-v2", "byol", "simsiam", "swav", "dino", "barlow-twins", "vicreg"):
        assert any(call[:4] == ["-m", "probekit", "pretrain", method] for call in asked), method
    assert sum(call[:2] == ["-m", "pytest"] for call in asked) == 4
    ended = dict(line.split("\t")[:2] for line in (out / "parts.tsv").read_text().splitlines())
    assert ended["pretrain-byol"] == "exit 3"
    assert ended["pretrain-swav"] == "well"
    found = (out / "table.md").read_text()
    assert "| simclr-16 | 2.00 | 3.00 | 1.50 | 0.50 |" in found
    assert "Not measured: conrec-16, conrec-16-eager." in found
    assert f"\n{sum(how == 'well' for how in ended.values())} of {len(ended)} parts ended well.\n" in found
    assert " ".join(found.splitlines()[-1].split()) == "1 the step cannot be recorded as a CUDA graph"
    assert found in done.stdout
    assert len(list(out.iterdir())) <= 6  # a lent machine gives eight files back


def test_the_table_without_any_measurement(tmp_path: Path) -> None:
    (tmp_path / "parts.tsv").write_text("gen\twell\t3\nbench-a\tover its 75 s\t75\n")
    (tmp_path / "bench.jsonl").write_text("")
    lines = table(tmp_path)
    assert "Not measured: a." in lines
    assert lines[-1] == "1 of 2 parts ended well."
