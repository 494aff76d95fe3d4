"""The distribution: what it is called, what it holds, and what it says where it is not alone or lacks OpenCV.

Alone: pytest tests/test_installed.py
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from probekit import __version__
from probekit.installed import OPENCV, warning
from tests.test_hints import hints, trouble

ROOT = Path(__file__).parent.parent
RECORDED = "probekit/__init__.py,sha256=47DE,0\nprobekit-1.4.2.dist-info/METADATA,,\n"


def installed(folder: Path, name: str, record: str) -> Path:
    path = folder / f"{name}.dist-info"
    path.mkdir()
    (path / "RECORD").write_text(record)
    return folder


def test_another_project_of_our_name_is_said_in_one_line(tmp_path: Path) -> None:
    line = warning(installed(tmp_path, "probekit-1.4.2", RECORDED)) or ""
    assert "probekit 1.4.2 of another project" in line
    assert "\n" not in line
    assert [trouble("probekit/installed.py", hint) for hint in hints(line)] == [None]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("probekit_vision-0.1.0", RECORDED),  # ours
        ("probekit-0.1.0", "_editable_impl_probekit.pth,,\n"),  # one whose files lie elsewhere
        ("probekit_tools-1.0", RECORDED),
    ],
)
def test_what_has_no_files_among_ours_is_not_mentioned(name: str, record: str, tmp_path: Path) -> None:
    assert warning(installed(tmp_path, name, record)) is None


def test_the_command_says_it_before_its_imports_fail(tmp_path: Path) -> None:
    """Installed by copying: another project's `probekit/run.py` has replaced ours."""
    for name in ("probekit", "generators"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "probekit").unlink()
    (tmp_path / "probekit").mkdir()
    for path in (ROOT / "probekit").iterdir():
        if path.name != "run.py":
            (tmp_path / "probekit" / path.name).symlink_to(path)
    (tmp_path / "probekit/run.py").write_text("raise ImportError('theirs')")
    (tmp_path / "probekit/installed.py").unlink()
    (tmp_path / "probekit/installed.py").write_text((ROOT / "probekit/installed.py").read_text())
    installed(tmp_path, "probekit-1.4.2", RECORDED)
    done = subprocess.run(
        [sys.executable, "-c", "from probekit.cli import main"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("warning: expected probekit-vision alone, found the distribution probekit 1.4.2")


@pytest.mark.parametrize("code", ["from probekit.cli import main; main()", "import probekit; probekit.generate"])
def test_without_opencv_one_line_says_what_to_type(code: str, tmp_path: Path) -> None:
    hidden = f"import sys; sys.modules['cv2'] = None; sys.argv = ['probekit', 'gen', 'rect-tri', '--n', '4']; {code}"
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith("expected OpenCV, found no module cv2; type: pip install opencv-python-headless")
    assert "Traceback" not in done.stderr or "probekit.generate" in code


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_neither_package_of_opencv_is_forced_upon_the_other() -> None:
    asked = [line for line in project()["dependencies"] if "opencv" in line]
    assert asked == []
    assert [line for line in project()["optional-dependencies"]["opencv"] if not line.startswith(OPENCV)] == []


def test_what_is_said_of_the_project_agrees() -> None:
    """pyproject.toml, CITATION.cff and LICENSE, whose words are no code's to share."""
    cited = dict(
        line.split(": ", 1)
        for line in (ROOT / "CITATION.cff").read_text().splitlines()
        if ": " in line and line[0] != " "
    )
    assert cited["version"] == __version__
    assert cited["cff-version"] == "1.2.0"
    assert cited["license"] == project()["license"]
    author = project()["authors"][0]["name"]
    assert f'- name: "{author}"' in (ROOT / "CITATION.cff").read_text()
    assert f"(c) 2026 {author}" in (ROOT / "LICENSE").read_text()
    assert [path for path in project()["urls"].values() if not (ROOT / path).is_file()] == []


def test_sdist_and_wheel_hold_what_they_should(tmp_path: Path) -> None:
    """The sdist all that git keeps; the wheel both packages whole, the pages, and nothing else."""
    hatchling = pytest.importorskip("hatchling.builders.sdist")
    wheel = pytest.importorskip("hatchling.builders.wheel")

    def held(builder: Any) -> set[str]:
        return {str(file.distribution_path) for file in builder(str(ROOT)).recurse_included_files()}

    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    files = set(kept.stdout.split("\n")) - {""} if kept.returncode == 0 else {"tests/conftest.py", "docs/exam.md"}
    there = {name for name in files if (ROOT / name).is_file()}
    assert sorted(there - held(hatchling.SdistBuilder)) == []
    inside = held(wheel.WheelBuilder)
    package = {name for name in there if name.startswith(("probekit/", "generators/"))}
    pages = {f"probekit/{name}" for name in there if Path(name).match("docs/*.md") and name.count("/") == 1}
    assert len(pages) > 20
    assert sorted((package | pages) ^ {name for name in inside if "__pycache__" not in name}) == []
