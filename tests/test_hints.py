"""What our texts say to type, as they stand in the source.

Alone: pytest tests/test_hints.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
WRITTEN = {".py", ".md", ".toml", ".txt", ".html", ".js", ""}
FOREIGN = re.compile(r"\b(pip|pipx|uv|poetry|conda)\b[^\n]*\b(install|add)\b[^\n.]*[\s'\"]probekit")


def test_nothing_says_to_install_what_others_own() -> None:
    """On the public index the name probekit belongs to an unrelated project; a folder, `pip install .`, does not."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    files = [*ROOT.iterdir(), *(inner for folder in folders for inner in folder.rglob("*"))]
    texts = {path: path.read_text() for path in files if path.is_file() and path.suffix in WRITTEN}
    assert len(texts) > 100
    assert [str(path) for path, text in texts.items() if path != Path(__file__) and FOREIGN.search(text)] == []
    assert FOREIGN.search("type: pip install 'probekit[timm]'")
    assert not FOREIGN.search("To install instead: `pip install .`")
