"""The pages of the documentation as their readers type them: code, and commands with what they print.

`python -m tests.pages` writes what they print anew, from real runs.
"""

import contextlib
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.typed import typed

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(?P<kind>python|console)\n(?P<body>.*?)^```$", re.M | re.S)
# In the order in which they are read: one folder for all of a row.
WALKS = (("docs/quickstart.md", "docs/tables.md"), ("docs/tutorial-images.md",))
# Progress, and what is of one machine alone.
LEFT_OUT = re.compile(
    r"^rendering |^importing |^epoch (?!(\d+)\.0/\1 )|^content hash |^hash |^  .* \.\.\.$|images/s\s+0:|^$|^data: "
    r"|^run: "
)
ONLY = {"demo": re.compile(r"^─+ |^wrote |came along|^Reads |right \[|^report |^done in ")}
UNTIL = {"probe": "Label-free health"}  # what follows is another table, of which the pages do not speak
WIDTH = 100


def printed(words: list[str], folder: Path) -> str:
    """What a command prints, as a page shows it: without progress, sentences broken into lines."""
    done = typed(*words, cwd=folder)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    lines: list[str] = []
    for line in (done.stderr + done.stdout).splitlines():
        if line.startswith(UNTIL.get(words[0], "\0")):
            return "\n".join([*lines, "..."]) + "\n"
        shown = ONLY[words[0]].search(line) if words[0] in ONLY else not LEFT_OUT.search(line)
        if not shown or not line.strip():
            gone = not shown and words[0] in ONLY
            lines += ["..."] * bool(gone and lines[-1:] != ["..."])
            continue
        lines += [line.rstrip()] if line[0] == " " else textwrap.wrap(line, WIDTH, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def walk(pages: tuple[str, ...], folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Runs all blocks of pages in a folder; page, command, and what stands there and what is printed."""
    names: dict[str, Any] = {}
    for page in pages:
        for block in BLOCK.finditer((ROOT / page).read_text()):
            if block["kind"] == "python":
                with contextlib.chdir(folder):
                    exec(block["body"], names)
                continue
            command, _, shown = block["body"].partition("\n")
            yield page, command, shown, printed(shlex.split(command)[2:], folder)


def words(text: str) -> list[str]:
    """What is the same on every machine: no numbers, no rows of tables, no verdicts."""
    lines = [line for line in text.splitlines() if line[:1] not in (" ", "─", ".")]
    plain = re.sub(r"bf16|fp32|threads?|[-+<>]?[\d.,:%]+|[\[\]()]", "", " ".join(lines))
    sentences = re.split(r"(?<=\w\w)[.;] ", plain)
    return sorted({" ".join(part.split()) for part in sentences if not re.search(r"above|below|told apart", part)})


def main() -> None:
    for pages in WALKS:
        with tempfile.TemporaryDirectory() as made:
            for page, command, shown, found in walk(pages, Path(made)):
                path = ROOT / page
                path.write_text(path.read_text().replace(f"{command}\n{shown}```", f"{command}\n{found}```"))
                print(f"{page}: {command}", file=sys.stderr)


if __name__ == "__main__":
    main()
