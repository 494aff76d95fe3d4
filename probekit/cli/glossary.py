"""`probekit help`: what a word means, from probekit/glossary.md, which docs/ links to."""

import re
from pathlib import Path

LINE = re.compile(r"- \*\*(?P<word>.+?)\*\*: (?P<meaning>.+)")


def glossary() -> dict[str, str]:
    """What each word means, one line each."""
    text = (Path(__file__).parents[1] / "glossary.md").read_text(encoding="utf-8")
    return {found["word"]: found["meaning"] for found in LINE.finditer(text)}


def meant(word: str) -> str | None:
    """The entry that a word names: itself, or the only one that has it among its words; or None."""
    plain = word.lower().replace("-", " ")
    entries = {name.lower().replace("-", " "): name for name in glossary()}
    having = [name for text, name in entries.items() if plain in text.split() or plain.rstrip("s") == text]
    return entries.get(plain) or (having[0] if len(having) == 1 else None)
