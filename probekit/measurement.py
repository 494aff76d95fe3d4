"""The contract of a measurement: what may be asked, what it makes of an encoder, and how its results are read.

A measurement is one file with one class, and one line in `registry.MEASUREMENTS`. The command line is made of its
fields; the terminal, the report, `compare` and the sweep read its results through it and know none by name. Its module
imports neither torch nor the arithmetic: only its `row` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, NotRequired, TypedDict

from probekit.checked import Meta, checked
from probekit.output.document import Cell, Chart, Headline, Table, percents, scored
from probekit.registry import MEASUREMENTS, check_named, get

Row = Mapping[str, Any]
Result = Mapping[str, Any]

ENCODER, BASELINE = "encoder", "baseline"  # kinds of rows
CHANCE = "chance"
UNKNOWN: dict[str, Any] = {"value": None, "ci": None}  # a score that is not defined

PARTS = "made_of"  # among the options of a result: those of other measurements
MOST_VALUES = 3  # of an option that a title names
MOST = 1e15  # of any number in a result: whole ones stay exact as floats, and charts have room
Number = Annotated[float, Meta(gt=-MOST, lt=MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, lt=int(MOST))]
Interval = tuple[Number, Number] | None


class Named(TypedDict):
    """What every row has."""

    name: str
    kind: str


class Estimate(TypedDict):
    """A number and its 95 % interval."""

    value: Number | None
    ci: Interval
    low: NotRequired[Number]


class About(TypedDict):
    """What every result has beside its rows.

    certificate: what is proved of the images, a sentence for each class factor; none where no classes are read.
    """

    schema: str
    run: str
    data: str
    data_hash: str
    protocol: str
    how: str
    command: str
    options: dict[str, Any]
    checkpoint: str
    epoch: Count
    seed: Count
    notes: list[str]
    rows: list[Any]
    checkpoint_hash: NotRequired[str]
    certificate: NotRequired[list[str]]


@dataclass(frozen=True)
class Score:
    """A number that a row is judged by.

    `value`: None where it is not defined; `low`: the least that it can be; the most is 1.
    """

    value: float | None
    ci: Sequence[float] | None
    low: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As results keep it; `low` where it is not 0."""
        return {"value": self.value, "ci": self.ci} | ({"low": self.low} if self.low else {})


def score_of(found: Mapping[str, Any]) -> Score:
    """The score that results keep so."""
    return Score(found["value"], found["ci"], found.get("low", 0.0))


def score_cell(score: Mapping[str, Any] | None) -> Cell:
    """A score as results keep it: in %, or as it is where it may be negative."""
    if score is None:
        return Cell("-", None)
    show = scored if score.get("low") else percents
    return show(score["value"], score["ci"])


def score_title(name: str, score: Mapping[str, Any] | None) -> str:
    """Above such cells."""
    return name if score is None or score.get("low") else f"{name}, %"


def option(default: Any, flag: str, help: str, **more: Any) -> Any:
    """A field of a measurement that the command line fills.

    `more`: `asks`: typing it asks for the measurement; `read`: text -> value, and `write`, its inverse; `metavar`;
    `least`; `choices`.
    """
    return field(default=default, metadata={"flag": flag, "help": help, **more})


@dataclass(frozen=True)
class Measurement(ABC):
    """What is asked of encoders. Its fields are what can be typed; reading a result needs none of them."""

    name: ClassVar[str]  # in `registry.MEASUREMENTS`, in results and, after two dashes, on the command line
    title: ClassVar[str]
    help: ClassVar[str] = ""  # the sentence of its flag; "" where it has none or where one of its fields asks for it
    shape: ClassVar[Any]  # one row, as results hold it; for `checked`
    version: ClassVar[int] = 1  # the number of that shape: a new one where older results cannot be read any more
    whole: ClassVar[Any] = About  # all that its results have beside the rows
    command: ClassVar[str] = "probe"
    main: ClassVar[tuple[str, ...]] = ()  # scores that curves follow and sweeps have in their tables; () is the first
    needs: ClassVar[tuple[str, ...]] = ("train", "test")  # splits that must have labels
    replaces: ClassVar[tuple[str, ...]] = ()  # measurements that a sweep leaves out where it asks for this one
    leads: ClassVar[bool] = False  # whether it opens a report, its charts before its tables
    terse: ClassVar[bool] = False  # whether a terminal shows its sentences alone, and its tables with --full
    own_images: ClassVar[bool] = False  # whether it brings its images along, in place of a dataset's
    offered: ClassVar[bool] = True  # whether a report says how to measure it for a run that lacks it
    names: ClassVar[tuple[str, ...]] = ()  # those that `numbers` may have; one that ends in a space or in "=" goes on

    def __post_init__(self) -> None:
        """Refuses a value that is none of an option's choices, or less than its least."""
        for part in fields(self):
            value, about = getattr(self, part.name), part.metadata
            if value is None:
                continue
            if "choices" in about:
                check_named(f"value of {about['flag']}", value, about["choices"])
            if "least" in about and value < about["least"]:
                raise ValueError(f"expected {about['flag']} at least {about['least']}, found {value}")

    @abstractmethod
    def tables(self, result: Result) -> list[Table]:
        """Every table; their keys tell them apart, their `how` adds to the result's own."""

    @abstractmethod
    def scores(self, row: Row) -> dict[str, Score]:
        """Named numbers of a row, the most telling first."""

    def charts(self, result: Result) -> list[Chart]:
        """Every chart."""
        return []

    def sentences(self, result: Result) -> list[str]:
        """What a reader should know first."""
        return []

    def encoder_rows(self, result: Result) -> list[Row]:
        """The rows that are about the encoder itself."""
        return [row for row in result["rows"] if row["kind"] == ENCODER]

    def proposed(self, run: Mapping[str, Any]) -> bool:
        """Whether it is `offered` for a run, as `report.collect` reads it."""
        return self.offered

    def answers(self, row: Row) -> tuple[Sequence[int], Sequence[int]] | None:
        """The true and the given class of each image that counts; None where images are not right or wrong."""
        return None

    @classmethod
    def schema(cls) -> str:
        """What its results call themselves."""
        return f"probekit-{cls.name}/{cls.version}"

    @property
    def options(self) -> dict[str, Any]:
        """Its fields, as results keep them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def made_of(self, asked: Mapping[str, "Measurement"]) -> "dict[str, Measurement]":
        """Other measurements that its numbers are made of, as they are `asked`, by name."""
        return {}

    def settled(self, asked: Mapping[str, "Measurement"]) -> dict[str, Any]:
        """All that decides its numbers, as results keep it: its options, and those of what it is made of."""
        parts = {name: part.options for name, part in self.made_of(asked).items()}
        return self.options | ({PARTS: parts} if parts else {})

    def unusual(self, options: Mapping[str, Any]) -> list[str]:
        """Options as results keep them, in words: those that differ from its own, of a long list how many it has."""
        told = [words for name, part in options.get(PARTS, {}).items() for words in measurement(name).unusual(part)]
        for name, value in options.items():
            if name == PARTS:
                continue
            values = value if isinstance(value, list) else [value]
            if value is not None and value != self.options.get(name):
                few = f"{name} {' '.join(map(str, values))}"
                told.append(few if len(values) <= MOST_VALUES else f"{len(values)} {name}")
        return told

    @property
    def needs_evidence(self) -> bool:
        """Whether it says nothing of images without masks of evidence."""
        return False

    @property
    def words(self) -> list[str]:
        """What is typed to ask for it."""
        asking = [part for part in fields(self) if part.metadata.get("asks")]
        typed = [f"--{self.name}"] if self.help and not asking else []
        for part in fields(self):
            value = getattr(self, part.name)
            if part in asking or value != part.default:
                write: Callable[[Any], str] = part.metadata.get("write", str)
                typed += [part.metadata["flag"], write(value)]
        return typed

    def headline(self, result: Result) -> Headline | None:
        """What a report shows in large letters, if it measures one thing above all."""
        return None

    def named(self) -> tuple[str, ...]:
        """`names`, as its options have them."""
        return self.names

    def measures(self, number: str) -> bool:
        """Whether it can have a number of that name."""
        return any(number == own or (own[-1] in " =" and number.startswith(own)) for own in self.named())

    def numbers(self, row: Row) -> dict[str, Score]:
        """All named numbers of a row: its scores, and those of which more is not better."""
        return self.scores(row)

    def main_scores(self, row: Row) -> dict[str, Score]:
        """The scores that are followed along checkpoints and stand in tables of sweeps."""
        found = self.scores(row)
        return {name: found[name] for name in self.main or list(found)[:1] if name in found}

    def encoder_scores(self, result: Result, *, main: bool = False, also: Collection[str] = ()) -> dict[str, Score]:
        """The scores of the encoder, or the main ones and `also` others; rows of several names are told apart by these.

        `main`: whether only the main ones are wanted; `also`: names of further `numbers`, as the encoder's only row has
        them.
        """
        rows = self.encoder_rows(result)
        several = len({row["name"] for row in rows}) > 1
        found: dict[str, Score] = {}
        for row in rows:
            scores = self.main_scores(row) if main else self.scores(row)
            scores |= {name: score for name, score in self.numbers(row).items() if name in also}
            found |= {f"{row['name']}, {name}" if several else name: score for name, score in scores.items()}
        return found

    def allows(self, pool: str | None) -> bool:
        """Whether a sweep measures it under a pooling, None the encoder's own."""
        return True


def measurement(name: str) -> Measurement:
    """The measurement of a name, with nothing typed; a ValueError if there is none."""
    found: Measurement = get(MEASUREMENTS, "measurement", name)()
    return found


def measurements(command: str | None = None) -> Iterator[Measurement]:
    """All of them, or those of one command, in the order of `registry.MEASUREMENTS`."""
    found = map(measurement, MEASUREMENTS)
    return (each for each in found if command in (None, each.command))


def read_result(content: Mapping[str, Any]) -> Measurement:
    """Checks the content of a results file, and finds who reads it, by reading it once: no shape says everything.

    A ValueError where it is another than a measurement writes: what was expected, what was found.
    """
    names = {each.schema(): each for each in measurements()}
    schema = content.get("schema")
    for own, each in names.items():
        if isinstance(schema, str) and schema != own and schema.rpartition("/")[0] == own.rpartition("/")[0]:
            told = f"expected the schema {own}, found {schema:.60}, which another version of probekit wrote"
            raise ValueError(f"{told}; measure again with probekit {each.command}")
    if not isinstance(schema, str) or schema not in names:
        raise ValueError(f"expected the schema of a measurement, found {schema!r:.60}")
    reader = names[schema]
    checked(content, reader.whole, "the file")
    for number, row in enumerate(content["rows"]):
        checked(row, reader.shape, f"row {number + 1}")
        answers_agree(row)
    called = [(row["name"], row.get("target")) for row in content["rows"]]
    if len(set(called)) < len(called) or not reader.encoder_rows(content):
        raise ValueError("expected rows with names of their own, and one of the encoder")
    try:
        _ = reader.sentences(content), reader.tables(content), reader.charts(content)
        _ = [(reader.scores(row), reader.answers(row)) for row in reader.encoder_rows(content)]
    except (ArithmeticError, LookupError, RuntimeError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(f"expected all that {reader.name} reads in the rows, found {error!r:.60}") from error
    return reader


def answers_agree(row: Row) -> None:
    """Refuses labels, predictions and counts that do not belong together.

    A ValueError if there are not as many of one as of the other, or a class is none of the row's.
    """
    k, counts = len(row.get("classes", ())), row.get("confusion")
    if isinstance(counts, list) and (len(counts) != k or any(len(line) != k for line in counts)):
        raise ValueError(f"expected {k} x {k} counts in the confusion matrix of the row {row['name']!r}")
    labels, predicted = row.get("labels"), row.get("predicted")
    if not isinstance(labels, list) or not isinstance(predicted, list):
        return
    if len(labels) != len(predicted):
        raise ValueError(f"expected as many labels as predictions in the row {row['name']!r}")
    if "classes" in row and not all(0 <= value < k for value in (*labels, *predicted)):
        raise ValueError(f"expected classes below {k} in the row {row['name']!r}")


def encoders_first(rows: Sequence[Row]) -> list[Row]:
    """Rows of encoders, then the others, each in the order given."""
    return sorted(rows, key=lambda row: row["kind"] != ENCODER)


def encoder_row(result: Result) -> Row:
    """The row of the encoder, where a result has one."""
    return next(row for row in result["rows"] if row["kind"] == ENCODER)


Columns = Mapping[str, Callable[[Row], Cell]]  # by their titles


def rows_table(key: str, title: str, columns: Columns, rows: Sequence[Row], **more: Any) -> Table:
    """A table with a line for each row, encoders first and in bold, their names before the columns."""
    ordered = encoders_first(rows)
    lines = [[Cell(row["name"], row["name"]), *(cell(row) for cell in columns.values())] for row in ordered]
    strong = frozenset(number for number, row in enumerate(ordered) if row["kind"] == ENCODER)
    return Table(key, title, more.pop("how", ""), ("features", *columns), lines, strong=strong, **more)
