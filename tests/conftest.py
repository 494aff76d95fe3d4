"""Before any test imports torchvision, an oracle, it is imported as the product does. No test is timed, or random.

A test marked `gpu` needs a GPU (`pytest -m gpu` runs these alone), and is skipped without one, here and nowhere else.
"""

import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest
import torch
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from matplotlib.figure import Figure

from probekit.models.backbones import import_module
from tests.forked import SERVER, SLOW, STRENGTHS
from tests.plain import save_empty

# All that is imported, by us and by the tests, stays: looking through it for garbage takes a fifth of the time.
gc.disable()
# A busy machine must not fail a test, nor a case that only this run draws: `--hypothesis-profile=search` draws others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("same")
import_module("torchvision")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it; tests send it
# Unlike mutants', the children of tests are all of this tree.
SERVER.set_forkserver_preload(
    [*SLOW, "probekit.cli", "probekit.train.pretrain", "probekit.probes.measure", "probekit.heatmaps.run"]
)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Whatever a test, or a fixture of it, draws without a seed is the same in any order of the tests."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="fail where a run is trained or a process started")


@pytest.fixture
def plain_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is written as an empty one, which takes a tenth of the time, for tests that look at no picture."""
    if request.node.get_closest_marker("pictures"):
        return
    monkeypatch.setattr(Figure, "savefig", save_empty)


@pytest.fixture
def few_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an encoder only random weights and chance: most of the time goes to baselines that need no encoder."""
    from probekit.measurement import CHANCE
    from probekit.probes import measure
    from probekit.probes.baselines import BASELINES

    monkeypatch.setattr(measure, "BASELINES", {CHANCE: BASELINES[CHANCE]})


@pytest.fixture(scope="module")
def few_strengths() -> Iterator[None]:
    """A probe's C is chosen among two: the fits along the whole grid take a third of the time."""
    from probekit.probes import protocol

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "GRID", STRENGTHS)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing here outlives a power cut; tests of fsync put their own in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_command_line() -> Iterator[None]:
    """What typer makes of the app, once rather than at every call."""
    command = cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", command)
        patch.setattr(typer.testing, "_get_command", command)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_slow(pytestconfig: pytest.Config) -> Iterator[None]:
    """What `make test-fast` is for: no trainer, no child process."""
    if not pytestconfig.getoption("--fast"):
        yield
        return
    from probekit.train.loop import Trainer

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("expected neither training nor a process in make test-fast; take the file out of FAST")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", refuse)
        patch.setattr(subprocess.Popen, "__init__", refuse)
        yield
