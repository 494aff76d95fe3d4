"""Certificates where they are kept and shown: the shipped table, dataset files, every command that tells of them.

Alone: pytest tests/certificate/test_kept.py
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from generators import GENERATORS, CircSq, RectTri
from generators.certificates import SHIPPED, shipped, told
from generators.certify import bare, counterfactual_pairs, equal_multisets, misread
from probekit.certificate import certify
from probekit.certificate.certify import SPLIT
from probekit.data.generate import generate
from probekit.h5 import read_info
from tests.datasets import edited, small_shapes
from tests.typed import typed

HOW = "made anew by: probekit certify --all --json > generators/certificates.json"


@pytest.mark.parametrize("name", GENERATORS)
def test_the_shipped_certificate_is_of_the_generator_as_it_is(name: str) -> None:
    """Its first pairs anew: where all or none were equal, and where all were read right."""
    certificate = shipped(GENERATORS[name]())
    assert certificate is not None, HOW
    assert (certificate["n"], certificate["r"]) == (1000, [3, 5, 9])
    generator = bare(GENERATORS[name], size=128, parameters={})
    assert certificate["parameters"] == generator.values, HOW
    factors = generator.sample(certificate["seed"], SPLIT, np.arange(12))
    assert tuple(certificate["factors"]) == generator.class_factors, HOW
    for factor, found in certificate["factors"].items():
        pairs = list(counterfactual_pairs(generator, factors, factor))
        for side, equal in found["equal"].items():
            same = np.concatenate([equal_multisets(part.images, part.others, int(side)) for part in pairs])
            assert same.any() <= (equal > 0), HOW
            assert same.all() or equal < found["pairs"], HOW
        wrong = [misread(generator, part, factor) for part in pairs]
        assert all((part is None) == (found["reader"] is None) for part in wrong), HOW
        if found["reader"] is not None and found["reader"]["right"] == found["reader"]["images"]:
            assert not any(part.any() for part in wrong if part is not None), HOW


def test_the_table_holds_no_more_and_says_what_is_known() -> None:
    assert list(json.loads(SHIPPED.read_text())) == list(GENERATORS), HOW
    assert told_of(RectTri()) == [
        "corner: local, a bag of 3x3 patches reads it",
        "triangle: local, a bag of 3x3 patches reads it",
    ]


def test_the_table_of_the_docs_is_of_the_shipped_certificates() -> None:
    lines = []
    for name, certificate in json.loads(SHIPPED.read_text()).items():
        for factor, found in certificate["factors"].items():
            same = ", ".join(f"{100 * equal / found['pairs']:.0f}" for equal in found["equal"].values())
            both = [
                ", ".join(f"{read[way]['value']:.2f}" for way in ("unpaired", "paired"))
                for read in found["read"].values()
            ]
            reader = found["reader"]
            right = "none" if reader is None else f"{reader['right']:,} of {reader['images']:,}"
            verdict = f"{found['verdict']}, {found['r']} px"
            lines.append(f"| {' | '.join([f'{name}: {factor}', verdict, same, *both, right])} |")
    page = (Path(__file__).parents[2] / "docs/generators.md").read_text()
    assert "\n".join(lines) in page, "\n".join(lines)


def told_of(generator: Any) -> list[str]:
    found = shipped(generator)
    return [] if found is None else told(found)


def test_only_defaults_of_geometry_have_the_shipped_one() -> None:
    assert shipped(CircSq(parameters={"noise_sd": 0.1, "contrast": 0.5, "dark": 1})) is not None
    for other in (
        CircSq(size=64),
        CircSq(parameters={"rotation": 0.0}),
        CircSq(parameters={"gap": 3.0}),
        CircSq(parameters={"antialias": 1}),
        CircSq(parameters={"blur_sd": 1.0}),
    ):
        assert shipped(other) is None


def rendered(path: Path, **options: Any) -> Path:
    generate("rect-tri", out=path, n=2, n_test=2, compression="none", workers=1, **options)
    return path


def test_a_file_has_the_shipped_certificate_or_its_own_or_none(tmp_path: Path) -> None:
    default, other = rendered(tmp_path / "a.h5"), rendered(tmp_path / "b.h5", size=32)
    kept = read_info(default).certificate
    assert kept is not None
    assert told(kept) == told_of(RectTri())
    assert default.read_bytes() == rendered(tmp_path / "c.h5").read_bytes()
    assert read_info(other).certificate is None
    with h5py.File(other) as file:
        assert "certificate" not in file.attrs
    own = certify(bare(RectTri, size=32, parameters={}), n=80, sides=(3,))
    found = read_info(rendered(tmp_path / "d.h5", size=32, certificate=own)).certificate
    assert found is not None
    assert json.dumps(found) == json.dumps(own)


def test_the_seal_covers_the_certificate(tmp_path: Path) -> None:
    for number, change in enumerate(("whole", None)):
        path = rendered(tmp_path / f"{number}.h5")
        with h5py.File(path, "a") as file:
            kept = file.attrs["certificate"]
            del file.attrs["certificate"]
            if change is not None:
                file.attrs["certificate"] = kept.replace('"local"', f'"{change}"')
        with pytest.raises(ValueError, match="of seal"):
            read_info(path)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("[]", "expected a JSON dict in attribute 'certificate'"),
        ("{}", "expected schema = a string in attribute 'certificate'"),
        ("x", "expected JSON in attribute 'certificate'"),
    ],
)
def test_a_malformed_certificate_is_one_line(tmp_path: Path, certificate: str, said: str) -> None:
    path = rendered(tmp_path / "a.h5")
    with edited(path) as file:
        file.attrs["certificate"] = certificate
    with pytest.raises(ValueError, match=said) as error:
        read_info(path)
    assert "\n" not in str(error.value)


def test_gen_and_show_and_list_tell_it(tmp_path: Path) -> None:
    lines = told_of(RectTri())
    done = typed("gen", "rect-tri", "--n", "2", "--n-test", "2", cwd=tmp_path)
    assert all(line in done.stdout for line in lines), done.stderr
    assert all(line in typed("show", "data/rect-tri.h5", cwd=tmp_path).stdout for line in lines)
    assert json.loads(typed("show", "data/rect-tri.h5", "--json", cwd=tmp_path).stdout)["certificate"]["n"] == 1000
    assert all(f"  {line}\n" in typed("list", "generators", cwd=tmp_path).stdout for line in lines)
    done = typed("gen", "rect-tri", "--n", "2", "--size", "32", "--out", "data/small.h5", cwd=tmp_path)
    assert "no certificate of these settings; type: probekit certify data/small.h5" in done.stdout


def test_gen_certifies_other_settings_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.certificate.DEFAULT_N", 80)
    words = ("gen", "rect-tri", "--n", "2", "--size", "32", "--set", "noise_sd=0.1", "--certify", "--json")
    found = json.loads(typed(*words, cwd=tmp_path).stdout)
    assert {key: found["certificate"][key] for key in ("n", "size", "generator")} == {
        "n": 80,
        "size": 32,
        "generator": "rect-tri",
    }
    assert found["certificate"]["parameters"]["noise_sd"] == 0
    assert read_info(tmp_path / "data/rect-tri.h5").parameters["noise_sd"] == 0.1
    again = typed(*words, cwd=tmp_path)
    assert (again.returncode, "exists" in again.stderr) == (1, True)


def test_certify_takes_a_generator_or_its_file_and_agrees(tmp_path: Path) -> None:
    small_shapes(tmp_path / "data/a.h5", n=4, n_test=4, size=32, parameters={"corner_radius": 8.0})
    words = ("--n", "80", "--r", "3", "--json")
    file = typed("certify", "data/a.h5", *words, cwd=tmp_path)
    assert "was drawn by rect-tri: its settings are drawn anew" in file.stderr
    typed_out = typed("certify", "rect-tri", "--size", "32", "--set", "corner_radius=8", *words, cwd=tmp_path)
    assert json.loads(file.stdout) == json.loads(typed_out.stdout)
    assert "corner: local" in typed_out.stderr
    assert "same 3x3 patches" in typed_out.stderr
    assert file.stderr.endswith("next: probekit pretrain conrec --data data/a.h5\n")
    drawn = "next: probekit gen rect-tri --size 32 --set corner_radius=8.0"
    assert typed_out.stderr.endswith(f"{drawn}\n")
    (tmp_path / "data/rect-tri.h5").touch()
    again = typed("certify", "rect-tri", "--size", "32", "--set", "corner_radius=8", *words, cwd=tmp_path)
    assert again.stderr.endswith(f"{drawn} --out data/rect-tri-2.h5\n")
    (tmp_path / "data/rect-tri.h5").unlink()
    newest = typed("certify", "--n", "80", "--r", "3", "-q", cwd=tmp_path)
    assert (newest.returncode, newest.stdout, newest.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rect-try",), "did you mean 'rect-tri'?"),
        (("rect-tri", "--r", "3,x"), "type --r 3,5,9"),
        (("rect-tri", "--r", "4"), "type --r 3,5,9"),
        (("rect-tri", "--n", "10"), "type --n 1000"),
        (("rect-tri", "--set", "radius=3"), "unknown parameter 'radius'"),
        (("rect-tri", "--all"), "expected --all alone"),
        (("data/none.h5",), "expected a dataset file data/none.h5, found none"),
        (("data/none.h5", "--size", "32"), "expected --size and --set with a generator"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = typed("certify", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert said in done.stderr
