"""The folder of a sweep, sweeps/NAME/: sweep.json (what was asked for), data/, logs/; results, table.md, curves.png.

sweep.json is written once, before the first run; what is done is never written there, but read from the run folders.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from probekit.checked import checked
from probekit.files import read_json, refuse_links_out, sync_folder
from probekit.run import Run, write_json
from probekit.sweep.datasets import Data, build, describe
from probekit.sweep.definition import CURVES, Sweep, check_seeds
from probekit.sweep.plan import definition

SCHEMA = "probekit-sweep-plan/1"


class Plan(TypedDict):
    """What sweep.json holds, beside seeds and the definition."""

    preset: str
    set: tuple[str, ...]
    epochs: int | None
    device: str
    data: dict[str, Data]
    log: NotRequired[str | None]


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder."""

    path: Path

    @property
    def plan(self) -> Path:
        """What was asked for."""
        return self.path / "sweep.json"

    @property
    def logs(self) -> Path:
        """Folder of `RUN.log`, all that a run's commands printed."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Held by the sweep at work; beside the folder, which --overwrite replaces."""
        return self.path.with_name(f".{self.path.name}.lock")

    def read(self) -> dict[str, Any] | None:
        """The contents of sweep.json, None without the folder, which is refused if it holds something else."""
        if not self.path.exists():
            return None
        refuse_links_out(self.path)
        try:
            content = read_json(self.plan)
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a sweep in {self.path}, found something else ({error}); not touched") from error
        if content.get("schema") != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA} in {self.plan}; not touched")
        checked(content, Plan, str(self.plan))
        check_seeds(content.get("seeds"), str(self.plan))  # they are parts of names of runs
        return content

    def create(
        self, sweep: Sweep, found: Mapping[str, Path | None], *, seeds: Sequence[int], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Makes the folder with datasets and its sweep.json, whole or not at all.

        `found`: by dataset, those that are needed now: what each is made of, or None where nothing need be there.
        `asked`: the options that --resume goes on with: preset, epochs, set, device, log.
        """
        new = SweepFolder(self.path.with_name(f".{self.path.name}.new"))
        shutil.rmtree(new.path, ignore_errors=True)
        try:
            new.logs.mkdir(parents=True)
            (new.path / "data").mkdir()
            data = self._make(sweep, found, new)
            content = {"schema": SCHEMA, **asked, "seeds": list(seeds), **definition(sweep), "data": data}
            write_json(new.plan, content)
            new.path.rename(self.path)
            sync_folder(self.path.parent)
        finally:
            shutil.rmtree(new.path, ignore_errors=True)
        return content

    def add(self, content: dict[str, Any], sweep: Sweep, found: Mapping[str, Path | None]) -> dict[str, Any]:
        """Makes datasets that the sweep did without so far, and writes sweep.json."""
        for name in found:
            left = self.data(name)  # of a sweep that was killed before it knew of it; a folder of shards, say
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        content = content | {"data": content["data"] | self._make(sweep, found, self)}
        write_json(self.plan, content)
        return content

    def _make(self, sweep: Sweep, found: Mapping[str, Path | None], at: "SweepFolder") -> dict[str, Any]:
        """Datasets as sweep.json has them; their files are made in a folder that becomes this one."""
        made = {}
        for dataset in sweep.datasets:
            if dataset.name not in found:
                continue
            source = found[dataset.name]
            info = build(dataset, source, at.data(dataset.name))
            path = self.data(dataset.name) if at.data(dataset.name) == info.path else info.path
            made[dataset.name] = asdict(describe(dataset, source, info, path, sweep.measures[dataset.name]))
        return made

    def draw(self, results: Mapping[str, Any]) -> Path | None:
        """Writes curves.png, where a parameter is varied; a ValueError if there is another file of that name."""
        if not results["curves"]:
            return None
        from probekit.output.charts import draw_curves
        from probekit.output.pictures import save

        return save(draw_curves(results["curves"]), self.path / CURVES)

    def data(self, name: str) -> Path:
        """The file of a dataset."""
        return self.path / "data" / f"{name}.h5"

    def log(self, name: str) -> Path:
        """The log of a run or of a dataset's baselines."""
        return self.logs / f"{name}.log"


def check_same(content: dict[str, Any], sweep: Sweep, asked: Mapping[str, Any], *, where: Path) -> None:
    """Refuses to go on with a sweep that was started with other settings; `asked`: options as typed, or nothing."""
    ways = "type --overwrite to start again, or --name NAME for another sweep"
    for option, value in asked.items():
        if value and value != content.get(option):
            began = f"--{option} {content[option]}" if content.get(option) else f"no --{option}"
            raise ValueError(f"{where} was started with {began}, found {value}; {ways}")
    for kind, entries in definition(sweep).items():
        if content.get(kind) != entries:
            raise ValueError(f"{where} was started with other {kind} than {sweep.name} has now; {ways}")


def read_files(content: dict[str, Any]) -> dict[str, Data]:
    """The datasets' files by name; those that no run was chosen of yet are not there."""
    files: dict[str, Data] = checked(content, Plan, "sweep.json")["data"]
    return {entry["name"]: files[entry["name"]] for entry in content["datasets"] if entry["name"] in files}


def remove(folder: SweepFolder, runs: Path, names: Sequence[str]) -> None:
    """Removes a sweep's folder and its runs, for --overwrite; refuses a name that something other than a run has."""
    found = [Run(runs / name) for name in names if (runs / name).exists()]
    for run in found:
        run.read()  # refuses what is no run
        run.refuse_work()
    for run in found:
        run.remove()
    if folder.read() is not None:
        shutil.rmtree(folder.path)
