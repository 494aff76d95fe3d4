"""Loggers: each has what metrics.jsonl has, once, across an interruption; what fails ends no run; none is imported.

Alone: pytest tests/train/test_loggers.py
"""

import csv
import io
import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from probekit.registry import LOGGERS, loggers_named
from probekit.run import Run
from probekit.train import logged
from probekit.train.logged import Logged, chosen
from probekit.train.loggers.base import Begun, Ending, Logger
from probekit.train.pretrain import resume
from tests.datasets import small_shapes
from tests.test_layers import FILES, imports
from tests.train.test_loop import assert_same_run, stop_after, train

Series = dict[int, dict[str, float]]  # by step the numbers by name
BLOCK = 32768  # of the log format of LevelDB, in which Weights & Biases writes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, size=16)
    return path


@pytest.fixture(autouse=True)
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user without a network sets it."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def noted(found: Series, step: int, name: str, value: float) -> None:
    assert name not in found.setdefault(step, {}), f"{name} twice at step {step}"
    found[step][name] = value


def of_csv(run: Run) -> tuple[Series, list[int]]:
    found: Series = {}
    with (run.path / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    noted(found, step, name, float(value))
    return found, []


def of_tensorboard(run: Run) -> tuple[Series, list[int]]:
    found: Series = {}
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            noted(found, event.step, name, event.value)
    return found, [event.step for event in events.Images("views")]


def of_mlflow(run: Run) -> tuple[Series, list[int]]:
    found: Series = {}
    client, key = MlflowClient(), run.read()["log"]["keys"]["mlflow"]
    kept = client.get_run(key)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == run.name
    assert kept.data.params["train.batch_size"] == "8"
    for name in kept.data.metrics:
        for metric in client.get_metric_history(key, name):
            noted(found, metric.step, name, metric.value)
    files = [Path(found.path).name for found in client.list_artifacts(key, "images")]
    return found, sorted({int(name.split("step")[1].strip("%+_").split("+")[0].split("%")[0]) for name in files})


def of_wandb(run: Run) -> tuple[Series, list[int]]:
    """What `wandb sync` would send: of every process that trained the run, in order."""
    found: Series = {}
    pictures, ids = [], set()
    for file in sorted((run.path.parent / "wandb").glob("offline-run-*/*.wandb")):
        for record in records(file.read_bytes()):
            ids |= {record.run.run_id} if record.HasField("run") else set()
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            pictures += [record.history.step.num] if "views.path" in items else []
            for name, value in items.items():
                if name[0] != "_" and not name.startswith("views"):
                    noted(found, record.history.step.num, name, json.loads(value))
    assert ids == {run.read()["log"]["keys"]["wandb"]}
    return found, pictures


def records(raw: bytes) -> Iterator[Any]:
    """A header of 7 bytes; then blocks of parts, each with checksum, length and kind: whole, first, middle, last."""
    at, whole = 7, b""
    while at + 7 <= len(raw):
        if (room := BLOCK - at % BLOCK) < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", raw[at : at + 7])
        whole += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(whole)  # type: ignore[attr-defined]
            whole = b""


READERS = {"csv": of_csv, "tensorboard": of_tensorboard, "wandb": of_wandb, "mlflow": of_mlflow}


def test_each_has_what_metrics_has_and_the_run_is_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the third epoch, and again after the checkpoint: what was told once is not told again."""
    plain, _ = train(data, tmp_path, name="plain", epochs=4)
    with monkeypatch.context() as patch:
        stop_after(9, patch)
        run, finished = train(data, tmp_path, name="run", epochs=4, log=list(LOGGERS))
    assert not finished
    keys = run.read()["log"]["keys"]
    with monkeypatch.context() as patch:  # a kill between the third epoch's line and the next checkpoint
        stop_after(4, patch)
        patch.setattr("probekit.train.loop.Trainer.save", lambda self, *best: None)
        resume(run, epochs=None, device="cpu", console=Console(quiet=True))
    assert run.read_metrics()[-1]["epoch"] == 3
    said = Console(file=io.StringIO(), width=400)
    resume(run, epochs=None, device="cpu", console=said)
    assert said.file.getvalue().count("log: ") == len(LOGGERS)  # type: ignore[attr-defined]
    assert run.read()["log"] == {"to": list(LOGGERS), "keys": keys}
    assert_same_run(plain, run)
    lines = {line["step"]: line for line in plain.read_metrics()}
    for name, read in READERS.items():
        found, pictures = read(run)
        assert sorted(found) == [4, 8, 12, 16], name
        for step, numbers in found.items():
            expected = {key: value for key, value in lines[step].items() if key not in ("epoch", "step")}
            assert numbers == pytest.approx(expected, rel=1e-6), name  # TensorBoard keeps float32
        assert pictures == ([] if name == "csv" else [4, 12, 16]), name  # epochs that the monitor scores
    assert READERS.keys() == LOGGERS.keys()


class Odd(Logger):
    """Fails at one of its calls."""

    def __init__(self, at: str, error: Exception) -> None:
        self.at, self.error, self.told = at, error, list[str]()
        self.place = "nowhere"

    def _call(self, name: str) -> None:
        self.told.append(name)
        if name == self.at:
            raise self.error

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self._call("numbers")

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self._call("picture")

    def close(self, ending: Ending) -> None:
        self._call("close")


@pytest.mark.parametrize("at", ["numbers", "picture", "close"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("first\nsecond"), KeyError()])
def test_one_that_fails_is_one_line_and_the_others_go_on(at: str, error: Exception) -> None:
    odd, good, said = Odd(at, error), Odd("", error), list[str]()
    both = Logged({"odd": odd, "good": good}, said.append, draw=lambda first: np.zeros((2, 2, 3), np.uint8))
    for epoch in (1, 2):
        both.epoch({"epoch": epoch, "step": epoch, "loss": 1.0}, scored=True)
    both.close("finished")
    assert good.told == ["numbers", "picture", "numbers", "picture", "close"]
    before = good.told[: good.told.index(at) + 1]
    assert odd.told == [*before, "close"]  # so that it lets go of what it holds
    assert len(said) == 1
    assert said[0].startswith("warning: odd failed, and the run goes on without it: ")
    assert "\n" not in said[0]


def test_a_picture_that_cannot_be_drawn_ends_pictures_alone() -> None:
    good, said = Odd("", KeyError()), list[str]()

    def draw(first: bool) -> None:
        raise MemoryError

    one = Logged({"good": good}, said.append, draw=draw)
    for epoch in (1, 2):
        one.epoch({"epoch": epoch, "step": epoch}, scored=True)
    assert good.told == ["numbers", "numbers"]
    assert said == ["warning: no more pictures are logged: MemoryError"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own
@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_full_disk_under_a_logger_ends_no_run(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own folder is full, as far as it can see."""
    resource = pytest.importorskip("resource")
    original = logged.Logged.epoch

    def full(self: Logged, line: Mapping[str, Any], *, scored: bool) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            original(self, line, scored=scored)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(logged.Logged, "epoch", full)
    said = Console(file=io.StringIO(), width=400)
    run, finished = train(data, tmp_path, epochs=2, log=[name], console=said)
    assert finished
    assert len(run.read_metrics()) == 2
    assert said.file.getvalue().count(f"warning: {name} failed") == 1  # type: ignore[attr-defined]


def test_a_missing_package_is_said_before_anything_is_made(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorboard", "wandb", "mlflow"):
        for module in [module for module in sys.modules if module == LOGGERS[name].split(":")[0]]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
        with pytest.raises(ValueError, match=rf"for --log {name}, found .*pip install {name}$") as error:
            train(data, tmp_path, log=["csv", name])
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_odd_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown logger 'wanbd'.*did you mean 'wandb'"):
        chosen(["wanbd"])
    with pytest.raises(ValueError, match="found csv twice"):
        chosen(["csv", "csv"])


def test_one_that_cannot_begin_is_refused_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuch://place")
    with pytest.raises(
        ValueError, match=r"^mlflow cannot begin: expected a store of MLflow at nosuch://place"
    ) as error:
        train(data, tmp_path, epochs=1, log=["csv", "mlflow"])
    assert "\n" not in str(error.value)
    assert "MLFLOW_ALLOW_FILE_STORE=true" in str(error.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "no failed run is left of what never began"


def test_a_server_that_is_not_there_is_given_up_soon(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waited.append)
    with pytest.raises(ValueError, match=r"^mlflow cannot begin: expected a store of MLflow at http://127.0.0.1:9, "):
        train(data, tmp_path, epochs=1, log=["mlflow"])
    assert sum(waited) < 10, "MLflow's own seven tries wait for over a minute"


def test_a_resumed_run_may_log_elsewhere_or_nowhere(data: Path, tmp_path: Path) -> None:
    run, _ = train(data, tmp_path, epochs=1, log=["tensorboard"])
    quiet = Console(quiet=True)
    resume(run, epochs=2, device="cpu", log=["csv"], console=quiet)
    assert list(of_csv(run)[0]) == [8]
    assert list(of_tensorboard(run)[0]) == [4]
    resume(run, epochs=3, device="cpu", log=[], console=quiet)
    assert list(of_csv(run)[0]) == [8]
    assert run.read()["log"]["to"] == []


def test_columns_that_come_later_are_empty_before(tmp_path: Path) -> None:
    """And what a spreadsheet would split is quoted."""
    kind = chosen(["csv"])["csv"]
    begun = Begun("run", tmp_path, {}, "")
    kind(begun).numbers(1, {"loss": 0.1 + 0.2})
    kind(begun).numbers(2, {"loss": math.inf, 'a "b", c': 3.0})
    text = (tmp_path / "metrics.csv").read_text()
    assert text == 'step,loss,"a ""b"", c"\n1,0.30000000000000004,\n2,inf,3.0\n'


def test_none_is_imported_unless_it_is_asked_for() -> None:
    """Each package by the logger's own file alone, which nothing names but the table."""
    packages = {"torch.utils.tensorboard", "wandb", "mlflow"}
    own = {path.split(":")[0] for path in LOGGERS.values()}
    users: dict[str, set[str]] = {}
    for path in FILES:
        found = imports(path)
        users |= {path.stem: packages & found} if packages & found else {}
        assert not own & found
    assert users == {"tensorboard": {"torch.utils.tensorboard"}, "wandb": {"wandb"}, "mlflow": {"mlflow"}}


def test_a_logger_that_is_typed_twice_writes_once() -> None:
    assert loggers_named("csv, tensorboard,csv,none") == ["csv", "tensorboard"]
