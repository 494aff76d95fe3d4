"""The direction rule of docs/architecture.md, read from the imports; what must not load torch; no global randomness.

Alone: pytest tests/test_layers.py
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANYWHERE = {"__init__", "registry", "config", "settings", "run"}  # standard library only; whoever likes may use them
LEVEL = {
    "generators": 0,
    "output": 1,
    "h5": 1,
    "device": 1,
    "importers": 1,
    "generate": 1,
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_an_arrow_never_turns_back(path: Path) -> None:
    own = own_part(path)
    relative = path.relative_to(ROOT)
    assert own is not None or relative.stem in ANYWHERE, f"{relative} has no level in LEVEL"
    for target in filter(None, map(part, imports(path))):
        level = LEVEL[own] if own else 0.5
        assert LEVEL[target] <= level, f"{relative} imports {target}"
        assert (own, target) not in FORBIDDEN


@pytest.mark.parametrize("path", sorted((ROOT / "generators").rglob("*.py")), ids=lambda p: p.name)
def test_generators_know_neither_torch_nor_probekit(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"torch", "probekit", "h5py", "sklearn"}


@pytest.mark.parametrize(
    "code",
    [
        "import generators",
        "import probekit.report.build, probekit.report.collect, probekit.report.html, probekit.report.markdown",
        "import probekit.commands.report",
        "import probekit.cli",
        "import probekit.run, probekit.config, probekit.settings",
        "import probekit.commands.sweep",
    ],
)
def test_torch_stays_unloaded(code: str) -> None:
    check = f"{code}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


def test_help_leaves_torch_unloaded() -> None:
    check = (
        "import sys; sys.argv = ['probekit', '--help']\n"
        "from probekit.cli import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "pretrain" in done.stdout


GLOBAL_RANDOMNESS = re.compile(
    r"np\.random\.(rand|randn|randint|random|choice|shuffle|permutation|normal|uniform|seed)\b"
    r"|^import random$|random\.seed\("
)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_randomness_is_never_global(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if GLOBAL_RANDOMNESS.search(line)]
    assert not lines


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
