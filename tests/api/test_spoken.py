"""What is refused speaks of arguments in Python and of options on the command line.

Alone: pytest tests/api/test_spoken.py
"""

import re
from pathlib import Path
from typing import Any, cast

import pytest
from torch import nn

import probekit
from probekit.api.spoken import in_python, spoken


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("expected --layer 1 to 6, found 9: these are a to b", "expected layer 1 to 6, found 9: these are a to b"),
        ("for --pool cls, found none; type: --pool gap, max", 'for pool="cls", found none; type: pool="gap", max'),
        ("found none; type: --encoder timm:x for random ones", 'found none; type: "timm:x" for random ones'),
        ("expected --weights with a tag; type: --weights FILE", "expected weights with a tag; type: weights=FILE"),
        ("type: --set model.pooling=gap.", 'type: settings=["model.pooling=gap"].'),
        ("it exists; type --overwrite to replace it", "it exists; type overwrite=True to replace it"),
        ("type: --seeds 0,1,2", 'type: seeds="0,1,2"'),
        ("type: --stride 8", "type: stride=8"),
        ("type: --cv 5", "type: also=[CrossValidation(folds=5)]"),
        ("labels for --knn, found none; type --knn", 'labels for also=["knn"], found none; type also=["knn"]'),
        ("--no-baselines leaves them out", "baselines=False leaves them out"),
        ("type: probekit probe RUN --layer all; or --pool gap", 'type: probekit probe RUN --layer all; or pool="gap"'),
        ("an em--dash, a-b, 3 -- 4", "an em--dash, a-b, 3 -- 4"),
    ],
)
def test_an_option_is_an_argument_and_a_command_stays(typed: str, said: str) -> None:
    assert spoken(typed) == said


def test_errors_of_all_that_python_has_speak_of_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1))
    probekit.generate("rect-tri", n=8, n_test=4, size=32, out="d.h5")
    for call, said in (
        (lambda: probekit.load(network, channels=1, size=32, layer=9), r"expected layer 1 to \d+, found 9"),
        (lambda: probekit.load(network, channels=1, size=32, pool="cls"), r'expected a class token for pool="cls"'),
        (lambda: probekit.load("timm:resnet18", device="tpu"), r'expected device="auto", cpu or cuda'),
        (lambda: probekit.generate("rect-tri", n=8, out="d.h5"), r"d\.h5 exists; .*overwrite=True"),
        (lambda: probekit.generate("rect-tri", n=0, n_test=0, out="e.h5"), r"type n=1000"),
        (
            lambda: probekit.generate("rect-tri", n=8, out=""),
            r"expected a file name, found the folder \.; type out=\"data",
        ),
        (lambda: probekit.generate("rect-tri", n=cast(Any, "8")), r"expected n of type int, found '8'"),
        (lambda: probekit.generate("rect-tri", seed=cast(Any, 0.5)), r"expected seed of type int, found 0\.5"),
        (lambda: probekit.generate("rect-tri", size=cast(Any, "9")), r"expected size of type int, found '9'"),
        (
            lambda: probekit.probe(network, cast(Any, 3)),
            r"expected data of type Dataset \| str \| Path \| None, found 3",
        ),
        (
            lambda: probekit.probe(network, "d.h5", also=cast(Any, ["knn", 3])),
            r"expected also of type .*, found \['knn', 3\]",
        ),
        (lambda: probekit.heatmap(network, "d.h5", maps=("cam", 3)), r"expected maps of type .*, found \('cam', 3\)"),
        (lambda: probekit.exam(network, size="x"), r"expected size of type int.*, found 'x'"),
        (lambda: probekit.load(network, channels=cast(Any, "x")), r"expected channels of type int, found 'x'"),
        (lambda: probekit.heatmap(network, "d.h5", stride=32), r"expected stride of at most window, 16"),
        (
            lambda: probekit.heatmap(network, "d.h5", layer=cast(Any, "2")),
            r"one layer is read by load\(.., layer='2'\)",
        ),
        (lambda: probekit.heatmap(network, "d.h5", map="cam"), r"unknown option 'map'; .*did you mean 'maps'"),
        (lambda: probekit.exam(network, size=1000), r"expected size at most 512, found 1000; type: size=224"),
        (lambda: probekit.exam(network, parts="acuities"), "'acuities'"),
    ):
        with pytest.raises((ValueError, OSError)) as caught:
            call()
        assert re.search(said, str(caught.value)), str(caught.value)
        assert not re.search(r"(?<![\w-])--[a-z]", str(caught.value).partition("probekit ")[0])


def test_other_errors_pass() -> None:
    def broken() -> None:
        raise KeyError("--pool gap")

    with pytest.raises(KeyError, match="--pool gap"):
        in_python(broken)()
