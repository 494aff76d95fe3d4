"""The direction rule of docs/architecture.md, read from the imports; what must not load torch; no global randomness.

Alone: pytest tests/test_layers.py
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ANYWHERE = {
    "__init__",
    "registry",
    "config",
    "fitting",
    "settings",
    "run",
    "files",
    "visible",
    "locks",
}  # standard library only; whoever likes may use them
LEVEL = {
    "generators": 0,
    "output": 1,
    "h5": 1,
    "device": 1,
    "importers": 1,
    "generate": 1,
    "mosaic": 1,
    "picture": 1,
    "show": 1,
    "streamed": 2,
    "data": 2,
    "views": 3,
    "crops": 3,
    "batched": 3,
    "jitter": 3,
    "corrupt": 3,
    "show_views": 3,
    "models": 3,
    "methods": 4,
    "branches": 4,
    "train": 5,
    "probe": 5,
    "heatmaps": 5,
    "report": 5,
    "sweep": 5,
    "commands": 6,
    "cli": 7,
    "__main__": 8,
}
FORBIDDEN = {("probe", "train"), ("heatmaps", "train")}
GLOBAL_RANDOMNESS = re.compile(
    r"np\.random\.(rand|randn|randint|random|choice|shuffle|permutation|normal|uniform|seed)\b"
    r"|^import random$|random\.seed\("
)
FILES = sorted([*(ROOT / "probekit").rglob("*.py"), *(ROOT / "generators").rglob("*.py")])


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(module: str) -> str | None:
    """`probekit.train.loop` -> "train"; None for other packages and for what may be used anywhere."""
    if module.split(".")[0] == "generators":
        return "generators"
    names = module.split(".")
    if names[0] != "probekit" or len(names) < 2 or names[1] in ANYWHERE or names[1] not in LEVEL:
        return None
    return names[1]


def own_part(path: Path) -> str | None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return part(module)


def test_an_arrow_never_turns_back() -> None:
    wrong = []
    for path in FILES:
        relative, own = path.relative_to(ROOT), own_part(path)
        if own is None and relative.stem not in ANYWHERE:
            wrong.append(f"{relative} has no level in LEVEL")
        level = LEVEL[own] if own else 0.5
        for target in filter(None, map(part, imports(path))):
            if LEVEL[target] > level or (own, target) in FORBIDDEN:
                wrong.append(f"{relative} imports {target}")
    assert not wrong


def test_generators_know_neither_torch_nor_probekit() -> None:
    strangers = {"torch", "probekit", "h5py", "sklearn"}
    found = {path.name: {name.split(".")[0] for name in imports(path)} for path in (ROOT / "generators").rglob("*.py")}
    assert not {name: roots & strangers for name, roots in found.items() if roots & strangers}


def test_files_are_short_and_their_randomness_is_never_global() -> None:
    wrong = []
    for path in FILES:
        lines = path.read_text().splitlines()
        wrong += [f"{path.relative_to(ROOT)}: {len(lines)} lines"] * (len(lines) > 350)
        wrong += [f"{path.relative_to(ROOT)}: {line.strip()}" for line in lines if GLOBAL_RANDOMNESS.search(line)]
    assert not wrong


def test_torch_stays_unloaded_up_to_the_help() -> None:
    """One child imports what must start fast, one after another, and says what brought torch."""
    check = """
import importlib, sys
for name in (
    "generators", "probekit.run", "probekit.config", "probekit.settings", "probekit.report.build",
    "probekit.report.collect", "probekit.report.html", "probekit.report.markdown", "probekit.commands.report",
    "probekit.commands.sweep", "probekit.cli",
):
    importlib.import_module(name)
    if "torch" in sys.modules: sys.exit(name)
sys.argv = ["probekit", "--help"]
try: sys.modules["probekit.cli"].app()
except SystemExit: pass
sys.exit("--help" if "torch" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pretrain" in done.stdout
