"""Does a decoder rebuild the detail that decides the class, or just a detail? Asked of corrupted evidence."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, TypedDict

from probekit import measurement as m
from probekit.output.document import Cell, Table, count, percents, scored, text
from probekit.probes.measurements.base import Probe
from probekit.weights import RANDOM

if TYPE_CHECKING:
    from probekit.h5 import DatasetInfo
    from probekit.probes.measure import Conditions, Source
    from probekit.probes.rebuilt import Question, Rebuild, Side
    from probekit.restore.opened import Opened

OWN = "in-painting"  # the corruption whose scores are the main ones: ConRec's, and nothing of the region is left
ALL, ONE = "all places", "largest place"  # what of the evidence is hidden; the main scores are of the latter
BATCH = 64  # images that are decoded at a time
PREFIX = "rebuilt: "
NUMBERS = {  # of an answer: its title, and what it is
    "right": ("Nearer to the truth, %", ""),
    "restored": (
        "How much is restored",
        "1 is the truth, 0 halfway, -1 the counterfactual: where what was rebuilt lies along their difference.",
    ),
}


class Answer(TypedDict):
    """See `probe.rebuilt.answer`."""

    factor: str
    places: str
    margin: m.Count
    corruption: str
    n: m.Count
    right: m.Estimate
    restored: m.Estimate


class ReconstructionRow(m.Named):
    """What a decoder, or what needs none, makes of every question."""

    answers: list[Answer]


@dataclass(frozen=True)
class Reconstruction(Probe):
    """Whether corrupted evidence is rebuilt to the truth or to the counterfactual."""

    n: int = m.option(100, "--reconstruction-n", "How many test images --reconstruction takes, evenly spaced.", least=1)

    name = "reconstruction"
    title = "Rebuilt evidence"
    help = (
        "Also corrupt the evidence of each class factor, and ask whether the decoder rebuilds it or its counterfactual."
    )
    about = (
        "Up to {n} images. What of the evidence is hidden is corrupted, the decoder rebuilds it, and the squared "
        "distance in it says whether that is nearer to the image or to its counterfactual. Asked of both as the "
        "truth; ties are one half; chance is 50 %; intervals: 95 % percentile bootstrap over images."
    )
    shape = ReconstructionRow
    baselines = (RANDOM,)
    needs = ()
    fits = False
    followable = False
    of_features = False
    names = (PREFIX,)

    @property
    def needs_evidence(self) -> bool:
        return True

    def check(self, conditions: "Conditions") -> None:
        """Refuses a run without a decoder, and images without counterfactuals."""
        from generators import GENERATORS

        info, opened = conditions.labels.info, conditions.opened
        if opened is None or not opened.decodes:
            found = "an encoder from elsewhere" if opened is None else f"{opened.name}, which has none"
            raise ValueError(
                f"expected a run with a decoder for --reconstruction, found {found}; type: probekit pretrain conrec"
            )
        if info.generator not in GENERATORS:
            raise ValueError(
                f"expected images of a generator for --reconstruction, found others in {info.path}; "
                f"type: probekit probe {quote(opened.name)} --reconstruction --data GENERATED.h5"
            )

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        import numpy as np

        assert source.opened is not None
        opened, known = source.opened, dict[str, Any](inputs=None)

        def rebuild(side: "Side") -> Any:
            if not np.array_equal(known["inputs"], side.inputs):  # else both sides look alike
                known.update(inputs=side.inputs, made=_decoded(opened, side.inputs))
            return known["made"]

        return self._row(source.name, source.kind, rebuild, opened, conditions)

    def rest(self, opened: "Opened", conditions: "Conditions", rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """What needs no decoder, where there are baselines."""
        from probekit.probes.rebuilt import baselines

        if not any(row["kind"] == m.BASELINE for found in rows.values() for row in found):
            return
        for name, rebuild in baselines(_mean(opened, conditions.labels.info)).items():
            rows[self.name].append(self._row(name, m.BASELINE, rebuild, opened, conditions))

    def _row(
        self, name: str, kind: str, rebuild: "Rebuild", opened: "Opened", conditions: "Conditions"
    ) -> dict[str, Any]:
        from probekit.probes.rebuilt import answer

        seed = conditions.seed
        asked = _questions(opened, conditions.labels.info, n=self.n, seed=seed)
        return {"name": name, "kind": kind, "answers": [answer(each, rebuild, seed=seed) for each in asked]}

    def tables(self, result: m.Result) -> list[Table]:
        """Shares that are right; on demand how much is restored."""
        return [_table(m.encoders_first(result["rows"]), number) for number in NUMBERS]

    def sentences(self, result: m.Result) -> list[str]:
        """For each factor the answer that only the rest of the image can give."""
        lines = []
        for found in m.encoder_row(result)["answers"]:
            if _is_main(found) and found["n"]:
                share = percents(found["right"]["value"], found["right"]["ci"])
                lines.append(
                    f"{found['factor']}: the largest place of its evidence, painted over, is rebuilt to the truth in "
                    f"{share.text} % of {found['n']} images; the other places show it; chance is 50."
                )
        return lines

    def proposed(self, run: Mapping[str, Any]) -> bool:
        """Where a loss of reconstruction had a weight, on images of a generator."""
        return bool(run["config"].get("method_options", {}).get("alpha") and (run["data"] or {}).get("generator"))

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        """For each factor the largest place painted over, the others seen: what runs are compared by."""
        return {_name(found): m.score_of(found["right"]) for found in row["answers"] if _is_main(found)}

    def main_scores(self, row: m.Row) -> dict[str, m.Score]:
        return self.scores(row)

    def numbers(self, row: m.Row) -> dict[str, m.Score]:
        """The answers to all questions."""
        return {_name(found): m.score_of(found["right"]) for found in row["answers"]}


def _name(found: Mapping[str, Any]) -> str:
    factor, places, margin, corruption = _key(found)
    return f"{PREFIX}{factor}, {places}{f' + {margin} px' * bool(margin)}, {corruption}"


def _is_main(found: Mapping[str, Any]) -> bool:
    return _key(found)[1:] == (ONE, 0, OWN)


def _table(rows: list[m.Row], number: str) -> Table:
    """A line for each question, a column for each row."""
    answers = [{_key(found): found for found in row["answers"]} for row in rows]
    lines = []
    for question, found in answers[0].items():
        factor, places, margin, corruption = question
        names = (factor, f"{places}{f' + {margin} px' * bool(margin)}", corruption)
        cells = [_cell(own[question][number] if question in own else None, number) for own in answers]
        lines.append([*map(text, names), count(found["n"]), *cells])
    columns = ("factor", "hidden", "corruption", "n", *(row["name"] for row in rows))
    title, how = NUMBERS[number]
    return Table(number, title, how, columns, lines, folded=number != "right", names=3)


def _key(found: Mapping[str, Any]) -> tuple[str, str, int, str]:
    return found["factor"], found["places"], found["margin"], found["corruption"]


def _cell(found: Mapping[str, Any] | None, number: str) -> Cell:
    if found is None:
        return Cell("-", None)
    show = percents if number == "right" else scored
    return show(found["value"], found["ci"])


def _questions(opened: "Opened", info: "DatasetInfo", *, n: int, seed: int) -> "Iterator[Question]":
    """Every question about n images of test, or of the first split, as the encoder takes them."""
    from probekit.data.truth import read_truth, with_shared_noise
    from probekit.probes.rebuilt import questions

    truth = read_truth(with_shared_noise(info), "test" if "test" in info.splits else info.first.name, n)

    def taken(images: Any) -> Any:
        return opened.take(images)[:, 0].float().cpu().numpy() / 255

    others = {name: taken(found.images) for name, found in truth.counterfactuals.items()}
    return questions(taken(truth.split.images), others, mean=float(_mean(opened, info).mean()), seed=seed)


def _mean(opened: "Opened", info: "DatasetInfo") -> Any:
    """The mean image of train, or of the first split, `[1, H, W]` in [0, 1] as the encoder takes it."""
    import numpy as np

    from probekit.data.split import read_chunks

    sums = [opened.take(images)[:, 0].double().sum(0).cpu().numpy() for images in read_chunks(info, info.first.name)]
    return (np.sum(sums, axis=0) / (255 * info.first.n)).astype(np.float32)[None]


def _decoded(opened: "Opened", inputs: Any) -> Any:
    """What a decoder makes of `[n, H, W]`."""
    import numpy as np
    import torch

    made = []
    for start in range(0, len(inputs), BATCH):
        batch = torch.from_numpy(inputs[start : start + BATCH]).to(opened.device)[:, None]
        found = opened.reconstruct(batch)
        assert found is not None
        made.append(found[:, 0].float().cpu().numpy())
    return np.concatenate(made)
