"""One line for every value that does not fit its type; which values do, and what they become, is compared with msgspec.

Alone: pytest tests/test_checked.py
"""

import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.checked import LIMITS, Meta, checked, key_of, shorten


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Annotated[int, Meta(ge=8, lt=100)]
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    name: Literal["lars", "sgd", "adamw"] = "sgd"
    official: str | None = field(default=None, metadata={"key": "import"})


class Kept(TypedDict):
    count: int
    low: NotRequired[Annotated[float, Meta(gt=0, le=3)]]


@dataclass(frozen=True, kw_only=True)
class Outer:
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)]
    inner: Inner
    rows: tuple[Inner, ...] = ()
    percent: dict[str, dict[str, float]] = field(default_factory=dict)
    pair: tuple[str, str] | None = None
    deep: bool = False
    level: int | float | None = None
    word: Annotated[str, Meta(pattern="^[a-z]+$", description="small letters")] | bool = "a"
    kept: list[Kept] | None = None
    step: Literal[1, 2, "auto"] = 1
    anything: Any = None


@dataclass
class Shape:
    count: int
    sides: list[float]


def oracle(kind: Any) -> Any:
    """The same type in msgspec's words."""
    origin = get_origin(kind)
    if origin is Annotated:
        meta = kind.__metadata__[0]
        limits = {name: limit for name in LIMITS if (limit := getattr(meta, name)) is not None}
        return Annotated[oracle(kind.__origin__), msgspec.Meta(**limits)]
    if origin in (Union, UnionType, tuple, list, dict):
        return (Union if origin is UnionType else origin)[tuple(map(oracle, get_args(kind)))]
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind, include_extras=True)
        parts: list[Any] = []
        for part in fields(kind):
            default = {} if part.default is MISSING else {"default": part.default}
            default |= {} if part.default_factory is MISSING else {"default_factory": part.default_factory}
            parts.append((part.name, oracle(hints[part.name]), msgspec.field(name=key_of(part), **default)))
        return msgspec.defstruct(kind.__name__, parts, kw_only=True, forbid_unknown_fields=True)
    if kind is Kept:
        low = NotRequired[Annotated[float, msgspec.Meta(gt=0, le=3)]]
        return TypedDict("Oracle", {"count": int, "low": low})  # type: ignore[operator]  # built at run time
    return kind


ORACLE = oracle(Outer)
GOOD: dict[str, Any] = {"seeds": [0, 1], "inner": {"size": 8}}


def test_what_fits_comes_back_as_its_type() -> None:
    given = GOOD | {"inner": {"size": 9, "share": 0, "import": "stl10"}, "percent": {"a": {"b": 3}}, "pair": ["x", "y"]}
    found = checked(given, Outer, "sweep.toml")
    assert found == Outer(
        seeds=(0, 1), inner=Inner(size=9, share=0.0, official="stl10"), percent={"a": {"b": 3.0}}, pair=("x", "y")
    )
    assert type(found.inner.share) is float
    assert checked({"count": 3, "sides": [1]}, Shape, "x") == Shape(3, [1.0])
    assert checked({"count": 3}, Kept, "x") == {"count": 3}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seeds": []}, "expected seeds = a list of length at least 1 in a.toml, found []"),
        ({"seeds": 3}, "expected seeds = a list in a.toml, found 3"),
        ({"seeds": [0, "1"]}, "expected seeds[1] = a whole number in a.toml, found '1'"),
        ({"seeds": [True]}, "expected seeds[0] = a whole number in a.toml, found True"),
        ({"inner": 3}, "expected inner = a table in a.toml, found 3"),
        ({"inner": {}}, "expected inner.size = a whole number in a.toml, found nothing"),
        ({"inner": {"size": 7}}, "expected inner.size = a whole number of at least 8 in a.toml, found 7"),
        (
            {"inner": {"size": 8.0}},
            "expected inner.size = a whole number in a.toml, found 8.0",
        ),
        (
            {"inner": {"size": 8, "share": float("nan")}},
            "expected inner.share = a number of at least 0 and below 1 in a.toml, found nan",
        ),
        (
            {"rows": [{"size": 8}, {"size": 8, "name": "adam"}]},
            "expected rows[1].name = one of lars, sgd, adamw in a.toml, found 'adam'; did you mean 'adamw'?",
        ),
        ({"inner": {"size": 8, "import": 3}}, "expected inner.import = a string in a.toml, found 3"),
        ({"percent": {"a": {"b": "c"}}}, "expected percent.a.b = a number in a.toml, found 'c'"),
        ({"pair": ["x"]}, "expected pair = a list of 2 in a.toml, found ['x']"),
        ({"word": "a b"}, "expected word = small letters or true or false in a.toml, found 'a b'"),
        ({"step": True}, "expected step = one of 1, 2, auto in a.toml, found True"),
        ({"deep": 1}, "expected deep = true or false in a.toml, found 1"),
        (
            {"sedes": [0]},
            "unknown key 'sedes'; known: anything, deep, inner, kept, level, pair, percent, rows, seeds, step, word; "
            "did you mean 'seeds'? (in a.toml)",
        ),
        (
            {"inner": {"size": 8, "shape": 1}},
            "unknown key 'inner.shape'; known: inner.import, inner.name, inner.share, inner.size; "
            "did you mean 'inner.share'? (in a.toml)",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        checked(GOOD | change, Outer, "a.toml")


def test_a_lone_value_and_other_kinds_of_tables() -> None:
    with pytest.raises(ValueError, match=r"^expected a list in x, found 'ab'$"):
        checked("ab", list[str], "x")
    with pytest.raises(ValueError, match=r"^expected sides\[1\] = a number in x, found None$"):
        checked({"count": 1, "sides": [1, None]}, Shape, "x")
    with pytest.raises(ValueError, match=r"^expected count = a whole number in x, found nothing$"):
        checked({}, Kept, "x")
    assert checked({"count": 1, "more": 2}, Kept, "x") == {"count": 1}
    with pytest.raises(ValueError, match=r"^expected a\[0\]\.low = a number of at most 3 in x, found 4$"):
        checked([{"count": 1, "low": 4}], list[Kept] | None, "x", "a")


words = st.sampled_from(["lars", "x", "auto", "a\nb"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 120) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "name", "count", "z"]), inner),
    max_leaves=6,
)
inners = st.fixed_dictionaries(
    {"size": st.integers(8, 99)}, optional={"share": st.floats(0, 0.5) | st.just(0), "name": words, "import": words}
)
kept = st.fixed_dictionaries({"count": st.integers()}, optional={"low": st.floats(0, 4), "more": words})
kept = kept.map(lambda found: dict(sorted(found.items())))  # whose order is nobody's promise
likely: dict[str, Any] = {
    "seeds": st.lists(st.integers(), max_size=4),
    "inner": inners,
    "rows": st.lists(inners, max_size=2),
    "percent": st.dictionaries(words, st.dictionaries(words, st.integers() | st.floats())),
    "pair": st.lists(words, min_size=2, max_size=2) | st.none(),
    "deep": st.booleans(),
    "level": st.integers() | st.floats() | st.none(),
    "word": words | st.booleans(),
    "kept": st.lists(kept, max_size=2),
    "step": st.sampled_from([1, 2, "auto"]),
    "anything": values,
}
needed = {name: likely.pop(name) for name in ("seeds", "inner")}
wholes = st.fixed_dictionaries(needed, optional=likely)


@settings(max_examples=200)
@given(wholes, st.just({}) | st.dictionaries(st.sampled_from([*needed, *likely, "other"]), values, max_size=1))
def test_msgspec_says_the_same_and_every_refusal_is_one_short_line(value: dict[str, Any], junk: dict[str, Any]) -> None:
    value = value | junk
    try:
        expected = msgspec.convert(value, ORACLE)
    except msgspec.ValidationError:
        with pytest.raises(ValueError, match=r"in a\.toml") as caught:
            checked(value, Outer, "a.toml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    else:
        assert repr(checked(value, Outer, "a.toml")) == repr(expected)  # which tells 1 from 1.0 and from True


def test_a_value_may_have_a_name_and_no_place() -> None:
    with pytest.raises(ValueError, match=r"^expected train\.epochs = a whole number of at least 8, found 3$"):
        checked(3, Annotated[int, Meta(ge=8)], "", "train.epochs")
    with pytest.raises(ValueError, match=r"^unknown key 'a\.wholly'; known: a\.import, a\.name, a\.share, a\.size$"):
        checked({"size": 9, "wholly": 3}, Inner, "", "a")


def test_a_long_value_is_shortened() -> None:
    assert shorten("x" * 99) == f"'{'x' * 59}..."
