"""What a shell offers after TAB, beside choices: runs, dataset files, names in tables."""

from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path

from probekit.cli.catalogue import KINDS, glossary
from probekit.registry import BRANCHES, METHODS, VARIANTS
from probekit.run import find_runs


def runs_like(incomplete: str) -> list[str]:
    """The runs in runs/ whose names begin so, the newest first."""
    return [run.name for run in find_runs(Path("runs"))[::-1] if run.name.startswith(incomplete)]


def datasets_like(incomplete: str) -> list[str]:
    """The dataset files in data/ whose paths begin so; else the files and folders elsewhere whose paths do."""
    found = [str(path) for path in sorted(Path("data").glob("*.h5")) if str(path).startswith(incomplete)]
    return found or [f"{path}/" if Path(path).is_dir() else path for path in sorted(glob(f"{escape(incomplete)}*"))]


def shown_like(incomplete: str) -> list[str]:
    """What `show` takes: runs and dataset files."""
    return runs_like(incomplete) + datasets_like(incomplete)


def certified_like(incomplete: str) -> list[str]:
    """What `certify` takes: generators and dataset files."""
    from generators import GENERATORS

    return [name for name in GENERATORS if name.startswith(incomplete)] + datasets_like(incomplete)


def _of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def like(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return like


methods_like, branches_like = _of(lambda: METHODS), _of(lambda: (*BRANCHES, *VARIANTS))
kinds_like, words_like = _of(lambda: KINDS), _of(glossary)


def recipes_like(incomplete: str) -> list[str]:
    """What `audit` takes: recipes of views, methods, and all of the former."""
    from probekit.views.recipes import RECIPES

    return [name for name in dict.fromkeys((*RECIPES, *METHODS, "all")) if name.startswith(incomplete)]


def sweeps_like(incomplete: str) -> list[str]:
    """The shipped sweeps whose names begin so, and sweep files."""
    from probekit.sweep.definition import shipped

    return [name for name in shipped() if name.startswith(incomplete)] + glob(f"{escape(incomplete)}*.toml")
