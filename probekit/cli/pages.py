"""`probekit help`: the words of docs/glossary.md, and the pages of docs/ beside it, which a wheel holds within."""

import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LINE = re.compile(r"- \*\*(?P<word>.+?)\*\*: (?P<meaning>.+(?:\n  .+)*)")


@cache
def pages() -> dict[str, Path]:
    """The file of each page by its name, from where a wheel has them, or from a checkout."""
    folder = next(
        folder for folder in (PACKAGE / "docs", PACKAGE.parent / "docs") if (folder / "glossary.md").is_file()
    )
    return {path.stem: path for path in sorted(folder.glob("*.md"))}


def page(name: str) -> Path | None:
    """The file that a name means: "exam", "exam.md" or "docs/exam.md", as other texts call it."""
    return pages().get(name.lower().removeprefix("docs/").removesuffix(".md"))


def title_of(path: Path) -> str:
    """The first line of a page."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip()


def glossary() -> dict[str, str]:
    """What each word means, one line each."""
    text = pages()["glossary"].read_text(encoding="utf-8")
    return {found["word"]: " ".join(found["meaning"].split()) for found in LINE.finditer(text)}


def meant(word: str) -> str | None:
    """The entry that a word names: itself, or the only one that has it among its words; or None."""
    plain = word.lower().replace("-", " ")
    entries = {name.lower().replace("-", " "): name for name in glossary()}
    having = [name for text, name in entries.items() if plain in text.split() or plain.rstrip("s") == text]
    return entries.get(plain) or (having[0] if len(having) == 1 else None)
