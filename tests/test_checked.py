"""One line for every value that does not fit its type, and msgspec's value for every one that does.

Alone: pytest tests/test_checked.py
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from probekit.checked import checked, shorten


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[int, Meta(ge=8, lt=100)]
    share: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    name: Literal["lars", "sgd", "adamw"] = "sgd"
    official: str | None = msgspec.field(default=None, name="import")


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)]
    inner: Inner
    rows: tuple[Inner, ...] = ()
    percent: dict[str, dict[str, float]] = {}
    pair: tuple[str, str] | None = None
    deep: bool = False


@dataclass
class Shape:
    count: int
    sides: list[float]


class Kept(TypedDict):
    count: int


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
        ({"pair": ["x"]}, "expected pair = a list in a.toml, found ['x']"),
        ({"deep": 1}, "expected deep = true or false in a.toml, found 1"),
        (
            {"sedes": [0]},
            "unknown key 'sedes'; known: deep, inner, pair, percent, rows, seeds; did you mean 'seeds'? (in a.toml)",
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


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 120) | st.floats() | st.sampled_from(["lars", "x", "a\nb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "name", "z"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Outer.__struct_fields__, "other"]), values))
def test_msgspec_decides_and_every_refusal_is_one_short_line(value: dict[str, Any]) -> None:
    try:
        expected = msgspec.convert(value, Outer)
    except msgspec.ValidationError:
        with pytest.raises(ValueError, match=r"in a\.toml") as caught:
            checked(value, Outer, "a.toml")
        assert not isinstance(caught.value, msgspec.ValidationError)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
    else:
        assert checked(value, Outer, "a.toml") == expected


def test_a_value_may_have_a_name_and_no_place() -> None:
    with pytest.raises(ValueError, match=r"^expected train\.epochs = a whole number of at least 8, found 3$"):
        checked(3, Annotated[int, Meta(ge=8)], "", "train.epochs")
    with pytest.raises(ValueError, match=r"^unknown key 'a\.wholly'; known: a\.import, a\.name, a\.share, a\.size$"):
        checked({"size": 9, "wholly": 3}, Inner, "", "a")


def test_a_long_value_is_shortened() -> None:
    assert shorten("x" * 99) == f"'{'x' * 59}..."
