"""The direction rule of docs/architecture.md, read from the imports; what must not load torch; no global randomness.

Alone: pytest tests/test_layers.py
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ORDER = (  # one level a package, the lowest first
    ("generators", "registry", "statistics", "visible", "files", "installed"),
    ("settings", "checked", "locks"),
    ("config", "run", "weights"),
    ("h5",),
    ("device", "ranks"),
    ("output",),
    ("measurement",),
    ("results",),
    ("data",),
    ("views",),
    ("audit",),
    ("models",),
    ("methods",),
    ("branches",),
    ("restore",),
    ("probes",),
    ("certificate",),
    ("heatmaps", "exams", "draw", "detection"),
    ("train",),
    ("reports",),
    ("share",),
    ("sweep",),
    ("api",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
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
    """`probekit.train.loop` -> "train"; None for other packages."""
    first, *rest = module.split(".")
    if first == "generators":
        return "generators"
    return rest[0] if first == "probekit" and rest and rest[0] in LEVEL else None


def test_an_arrow_never_turns_back() -> None:
    """Imports inside functions and for types count."""
    wrong = set()
    for path in FILES:
        relative = path.relative_to(ROOT)
        own = part(".".join(relative.with_suffix("").parts))
        if own is None:
            wrong |= {f"{relative} has no level in ORDER"} - {"probekit/__init__.py has no level in ORDER"}
            continue
        targets = {target for target in map(part, imports(path)) if target and target != own}
        wrong |= {f"{relative} imports {target}" for target in targets if LEVEL[target] >= LEVEL[own]}
    assert not wrong


def test_generators_know_neither_torch_nor_probekit() -> None:
    strangers = {"torch", "probekit", "h5py", "sklearn"}
    found = {path.name: {name.split(".")[0] for name in imports(path)} for path in (ROOT / "generators").rglob("*.py")}
    assert not {name: roots & strangers for name, roots in found.items() if roots & strangers}


def test_nothing_is_imported_beyond_the_core_dependencies() -> None:
    """So that a checkout runs where these are; what is beside them comes with one or is done without."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    called = {"scikit-image": "skimage", "pillow": "PIL", "scikit-learn": "sklearn"}
    names = {re.split(r"[<>=]", line)[0] for line in listed}
    allowed = {called.get(name, name.replace("-", "_")) for name in names} | {"probekit", "generators"}
    # The optional dependencies, imported where they are used.
    beside = {"cv2", "markupsafe", "_typeshed", "timm", "wandb", "mlflow", "onnx", "onnxruntime", "onnxscript"}
    beside |= {"huggingface_hub", "pyarrow", "pillow_heif", "submitit", "pycocotools", "ijson"}
    found = {name.split(".")[0] for path in FILES for name in imports(path)} - sys.stdlib_module_names
    assert found == allowed | beside


def test_files_are_short_and_their_randomness_is_never_global() -> None:
    wrong = []
    for path in FILES:
        lines = path.read_text().splitlines()
        wrong += [f"{path.relative_to(ROOT)}: {len(lines)} lines"] * (len(lines) > 350)
        wrong += [f"{path.relative_to(ROOT)}: {line.strip()}" for line in lines if GLOBAL_RANDOMNESS.search(line)]
    assert not wrong


def test_functions_are_short() -> None:
    files = [*FILES, *(ROOT / "benchmarks").rglob("*.py")]
    nodes = [(path, node) for path in files for node in ast.walk(ast.parse(path.read_text()))]
    lines = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lines) > 1000
    assert {name: n for name, n in lines.items() if n > 60} == {}


def test_what_must_answer_at_once_loads_nothing_slow() -> None:
    """One child types and imports what must be fast, one after another, and says what brought torch, NumPy and such."""
    check = """
import importlib, sys
SLOW = {"torch", "numpy", "h5py", "cv2", "matplotlib", "rich.markdown"}
import probekit.cli
typed = ("--help", "probe nosuch", "heatmap nosuch", "runs", "list poolings", "help evidence")
for words in map(str.split, typed):
    sys.argv = ["probekit", *words]
    try: probekit.cli.main()
    except SystemExit: pass
    if loaded := SLOW & sys.modules.keys(): sys.exit(f"{words} loads {loaded}")
for name in (
    "generators", "probekit.run", "probekit.config", "probekit.settings", "probekit.reports.build",
    "probekit.reports.collect", "probekit.reports.page",
    "probekit.sweep.start",
):
    importlib.import_module(name)
    if "torch" in sys.modules: sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pretrain" in done.stdout
