"""Writes the kept files anew, or compares two commits on this machine, digit by digit."""

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.guard.walk import masked, walk

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def write(folder: Path, *, mask: bool) -> None:
    """Walks in an empty folder, and writes a file for each thing that is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        for name, text in walk(Path(home).resolve()).items():
            (folder / f"{name}.txt").write_text(masked(name, text) if mask else text)


def differences(commit: str) -> list[str]:
    """The lines that differ between a commit and the working tree."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder / "tree", commit], cwd=ROOT, check=True)
        try:
            shutil.copytree(HERE, folder / "tree/tests/guard", dirs_exist_ok=True)
            for name, root in (("before", folder / "tree"), ("after", ROOT)):
                command = [sys.executable, "-m", "tests.guard", "--write", str(folder / name)]
                subprocess.run(command, cwd=root, check=True, env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder / "tree"], cwd=ROOT, check=True)
        found: list[str] = []
        for path in sorted((folder / "after").iterdir()):
            before = (folder / "before" / path.name).read_text().splitlines()
            after = path.read_text().splitlines()
            found += difflib.unified_diff(before, after, f"before/{path.name}", path.name, lineterm="", n=0)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.guard")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", action="store_true", help="write kept/ anew, without digits")
    which.add_argument("--against", metavar="REV", help="compare with a commit, digit by digit")
    which.add_argument("--write", type=Path, metavar="FOLDER", help="write all with its digits to a folder")
    asked = parser.parse_args()
    if asked.against:
        found = differences(asked.against)
        print("\n".join(found) or "nothing differs")
        sys.exit(bool(found))
    write(asked.write or HERE / "kept", mask=asked.keep)


if __name__ == "__main__":
    main()
