"""Configuration: presets, files, overrides, types, and messages that say what to type.

Alone: pytest tests/test_config.py
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.branches.xcorr import XCorr
from probekit.config import Config, fitted, resolve
from probekit.models.backbones import normalisation
from probekit.registry import BRANCHES, METHODS, VARIANTS, branch_named, get, nearest
from probekit.restore.build import build_method, size_notes
from probekit.settings import overridden, parse_overrides, presets, read_preset
from probekit.train.optim import Schedule, scaled_rate
from probekit.views.recipes import RECIPES


def conrec(**kwargs: Any) -> Config:
    return resolve("conrec", get(METHODS, "method", "conrec"), **{"preset": "paper", "seed": 0, **kwargs})


KEYS = [
    f"{'method' if part == 'method_options' else part}.{name}"
    for part, content in conrec().to_dict().items()
    if isinstance(content, dict)
    for name in content
]


def test_preset_paper_is_the_paper_to_the_letter() -> None:
    """Facts of the paper's sections 2.4, 2.5 and 3.2 and, where they are silent, the authors' code."""
    config = conrec()
    assert (config.model.width, config.model.depth, config.model.pooling) == (64, 4, "attention")
    assert config.optimizer.name == "lars"
    assert config.optimizer.lr * config.train.batch_size**0.5 == pytest.approx(0.3)
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 1e-4)
    assert (config.optimizer.schedule, config.optimizer.warmup_epochs) == ("constant", 0)
    assert (config.train.epochs, config.train.batch_size, config.train.eval_every) == (1000, 16, 20)
    assert config.train.precision == "fp32"
    assert config.method_options == {
        "contrastive": 1.0, "alpha": 100.0, "temperature": 0.5, "projection_dim": 128, "decoder_width": 1.0
    }  # fmt: skip


def paper(method: str, branch: str, **more: Any) -> Config:
    return resolve(method, get(METHODS, "method", method), preset="paper", seed=0, branches=[branch], **more)


@pytest.mark.parametrize("branch", ["lcr", *VARIANTS])
def test_lcrs_recipe_is_its_papers(branch: str) -> None:
    """LCR, section 4.1: .03 at a batch of 128, momentum .9, decay 1e-4, 100 epochs; MoCo's .999 and 65,536; 256."""
    config = paper("moco-v2", branch)
    optimizer, train = config.optimizer, config.train
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay, optimizer.decay) == ("sgd", 0.9, 1e-4, "all")
    assert (train.epochs, train.batch_size, optimizer.schedule, optimizer.warmup_epochs) == (100, 128, "cosine", 0)
    assert scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=train.batch_size) == 0.03
    assert scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=32) == 0.03
    method = config.method_options
    assert (method["momentum"], method["queue"], method["temperature"], method["projection_dim"]) == (
        0.999,
        65536,
        0.2,
        256,
    )
    assert config.views.recipe == "moco-v2"
    assert config.model.normalise == "imagenet"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_its_branch_with_other_settings_which_are_kept_as_its_branchs(name: str) -> None:
    branch, changed, about = VARIANTS[name]
    assert about
    plain, varied = paper("moco-v2", branch), paper("moco-v2", name)
    assert varied == replace(plain, branches={branch: plain.branches[branch] | changed})
    assert varied != plain
    setting, value = next(iter(changed.items()))
    typed = paper("moco-v2", name, options={f"branch.{branch}.{setting}": plain.branches[branch][setting]})
    assert typed.branches[branch][setting] != value  # what is typed stands


def test_lcr_on_byol_has_its_codes_rate() -> None:
    config = paper("byol", "lcr")
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.scaling) == ("lars", 0.3, "linear")
    assert (config.optimizer.weight_decay, config.optimizer.warmup_epochs, config.train.epochs) == (1.5e-6, 10, 100)


def test_lewel_on_byol_has_its_codes_recipe_for_synchronised_batch_norm() -> None:
    """Authors' script: 7.2 for 4096 images, 400 epochs, decay 1e-6, .996; 64 maps in each of 4 groups."""
    config = paper("byol", "lewel")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.weight_decay, optimizer.warmup_epochs) == ("lars", 1e-6, 10)
    assert scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=4096) == pytest.approx(7.2)
    assert (config.train.epochs, config.method_options["momentum"]) == (400, 0.996)
    assert (config.branches["lewel"]["groups"], config.branches["lewel"]["scale"]) == (4, 1.0)
    assert config.method_options["projection_dim"] // 4 == config.branches["lewel"]["k"] == 64


def test_xcorrs_recipe_on_swav_is_its_papers() -> None:
    """XCorr, supplement, section 1.2: .3 to 3.6 over 10 epochs, then to .0036; .015 to .03, then to 1e-6."""
    config = paper("swav", "xcorr")
    optimizer, train = config.optimizer, config.train
    assert (train.epochs, train.batch_size, optimizer.name, optimizer.momentum) == (200, 2048, "larc", 0.9)
    assert (optimizer.weight_decay, config.views.recipe) == (1e-6, "swav-pair")
    assert [kind.n for kind in RECIPES[config.views.recipe].crops] == [2]
    assert config.method_options["queue"] == 0
    assert config.method_options["prototypes"] == config.branches["xcorr"]["clusters"] == 3000
    assert normalisation(config.model.normalise, "unet", 3) == {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.228, 0.224, 0.225],
    }
    batches = 5
    peak = scaled_rate(optimizer.lr, scaling=optimizer.scaling, batch_size=train.batch_size)
    schedule = Schedule(peak, optimizer.schedule, 10 * batches, 200 * batches, optimizer.final, optimizer.first)
    with torch.device("meta"):
        branch: XCorr = build_method(config, channels=3).branches["xcorr"]  # type: ignore[assignment]
    [rate] = branch.rates()
    for step, core, own in ((0, 0.3, 0.015), (49, 3.6, 0.03), (1000, 0.0036, 1e-6)):
        assert schedule.at(step) == pytest.approx(core)
        assert rate.share * schedule.at(step, first=rate.first, final=rate.final) == pytest.approx(own)


def test_xcorrs_recipe_on_simsiam_has_simsiams_rates() -> None:
    config = paper("simsiam", "xcorr")
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.scaling) == ("sgd", 0.05, "linear")
    assert (config.train.epochs, config.views.recipe, config.model.normalise) == (200, "swav-pair", "swav")
    assert config.branches["xcorr"]["lr_share"] * config.optimizer.lr == pytest.approx(0.03)


def test_from_scratch_images_are_normalised_as_each_paper_has_it_and_weights_bring_their_own() -> None:
    scratch = {name: resolve(name, get(METHODS, "method", name), preset="paper", seed=0).model for name in METHODS}
    assert {name: model.normalise for name, model in scratch.items()} == {
        **dict.fromkeys(("simclr", "simclr-attention", "reconstruction", "conrec-gap", "conrec", "supervised"), "none"),
        **dict.fromkeys(("moco-v2", "byol", "simsiam", "dino", "barlow-twins", "vicreg"), "imagenet"),
        "swav": "swav",
    }
    assert paper("moco-v2", "lcr", options={"model.weights": "a.pt"}).model.normalise == "auto"
    assert paper("moco-v2", "lcr", overrides=["model.normalise=none"]).model.normalise == "none"


@pytest.mark.parametrize("method", METHODS)
def test_every_file_of_a_preset_names_settings_that_there_are(method: str) -> None:
    for preset in presets():
        for branch in BRANCHES:
            given = read_preset(preset, method, [branch])
            kind, both = get(METHODS, "method", method), {branch, "xcorr"}
            taken = resolve(method, kind, preset=preset, seed=0, options=given, branches=both)
            assert set(taken.branches) == both


@pytest.mark.parametrize("images", [40, 960])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_typed_is_never_changed(method: str, images: int) -> None:
    """Whatever the settings: here the papers' own, which are for a million images."""
    config = resolve(method, get(METHODS, "method", method), preset="paper", seed=0, branches=BRANCHES)
    config = replace(config, branches=config.branches | {"xcorr": config.branches["xcorr"] | {"clusters": images}})
    names = [f"method.{name}" for name in config.method_options]
    names += [f"branch.{name}.{setting}" for name, options in config.branches.items() for setting in options]
    found, lines = fitted(config, typed=names, images=images)
    assert found == config
    assert lines
    assert all(line.startswith("warning: ") for line in lines)
    assert fitted(config, typed=(), images=images)[0] != config


def test_a_typed_setting_without_effect_is_said() -> None:
    def lines(*overrides: str) -> list[str]:
        return fitted(conrec(overrides=overrides), typed=parse_overrides(overrides), images=960)[1]

    assert lines("optimizer.first=0.5") == ["warning: optimizer.first has no effect: optimizer.warmup_epochs is 0"]
    assert lines("optimizer.first=0.5", "optimizer.warmup_epochs=1") == []
    assert lines("optimizer.final=0.5") == ["warning: optimizer.final has no effect: optimizer.schedule is constant"]
    assert lines("optimizer.final=0.5", "optimizer.schedule=cosine") == []


@pytest.mark.parametrize("name", ["lcr", "xcorr", "lcr-sam", "lcr-sam-bilinear"])
def test_a_typed_setting_of_a_branch_without_weight_is_said_to_have_no_effect(name: str) -> None:
    branch, _ = branch_named(name)
    config = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, branches=[name])
    keys = [f"branch.{branch}.{setting}" for setting in config.branches[branch]]
    why = f"has no effect in training: branch.{branch}.weight is 0"
    assert not [line for line in fitted(config, typed=keys, images=960)[1] if why in line]
    off = replace(config, branches={branch: config.branches[branch] | {"weight": 0.0}})
    pools = config.branches[branch].get("train_pool", "encoder") != "encoder"  # while training, whatever its weight
    others = [key for key in keys if not key.endswith(".weight")]
    told = [line for line in fitted(off, typed=keys, images=960)[1] if why in line]
    assert told == ([] if pools else [f"warning: {key} {why}" for key in others])


@pytest.mark.parametrize(
    ("method", "setting", "follows"),
    [
        ("swav", "method.queue_from", "the queue takes no part"),
        ("swav", "method.freeze", "the prototypes stay as they are drawn"),
        ("dino", "method.freeze", "the last layer stays as it is drawn"),
        ("dino", "method.teacher_warmup", "method.final_teacher_temperature is not reached"),
        ("simclr", "branch.xcorr.start", "the branch takes no part"),
    ],
)
def test_epochs_beyond_the_run_are_said(method: str, setting: str, follows: str) -> None:
    def lines(epochs: int) -> list[str]:
        typed = {setting: 4, "train.epochs": epochs}
        kind, attached = get(METHODS, "method", method), ["xcorr"] if "xcorr" in setting else []
        config = resolve(method, kind, preset="quick", seed=0, options=typed, branches=attached)
        return [line for line in fitted(config, typed=typed, images=960)[1] if setting in line]

    assert lines(4) == [f"warning: {setting}=4 is not over in 4 epochs: {follows}"]
    assert lines(5) == []


def test_the_epoch_of_a_queue_that_is_not_there_is_said() -> None:
    typed = {"method.queue": 0, "method.queue_from": 2}
    config = resolve("swav", get(METHODS, "method", "swav"), preset="quick", seed=0, options=typed)
    told = "warning: method.queue_from=2 has no effect: method.queue is 0"
    assert told in fitted(config, typed=typed, images=960)[1]
    assert told not in fitted(config, typed={"method.queue"}, images=960)[1]


def test_a_size_that_images_cannot_have_is_said() -> None:
    def lines(most: int, *typed: str) -> list[str]:
        config = conrec(overrides=[f"views.max_size={most}"])
        return size_notes(config, torch.zeros(1, 1, 128, 96, dtype=torch.uint8), typed)

    typed = "views.max_size"
    assert lines(100) == lines(96, typed) == lines(130, typed) == []
    assert lines(100, typed) == ["warning: views.max_size=100 becomes 96x72: sides are multiples of 8"]


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_and_method_survives_the_round_trip(preset: str, method: str) -> None:
    config = resolve(method, get(METHODS, "method", method), preset=preset, seed=3)
    assert Config.from_dict(config.to_dict()) == config


DAMAGED: list[Any] = [None, True, -1, 10**30, 1e300, "", "x" * 300, [], {}, [[]], {"a": {}}]


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every entry of nested settings, sections too."""
    if isinstance(content, dict):
        for key, inner in content.items():
            yield (*path, key)
            yield from leaves(inner, (*path, key))


def test_what_a_run_says_of_its_settings_is_whole_or_refused_in_a_line() -> None:
    """Every setting gone, misnamed, and each of eleven other values: what is read is what was there, or a refusal."""
    told = paper("moco-v2", "lcr").to_dict()
    refused = []
    for path in leaves(told):
        for edit in ("gone", "misnamed", *DAMAGED):
            plain = copy.deepcopy(told)
            inner = plain
            for key in path[:-1]:
                inner = inner[key]
            before = inner.pop(path[-1])
            inner |= {"gone": {}, "misnamed": {"mine": before}}.get(str(edit), {path[-1]: edit})
            try:
                read = Config.from_dict(plain).to_dict()
            except ValueError as error:
                refused.append(str(error))
            else:
                assert read == plain, (path, edit)
    assert len(refused) > 9 * len(list(leaves(told)))
    assert all(len(line.splitlines()) == 1 and len(line) < 500 for line in refused)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("train", "epochs"), "a", "expected train.epochs = a whole number in run.json, found 'a'"),
        (("model", "width"), -1, "expected model.width = a whole number of at least 0 in run.json, found -1"),
        (("model", "width"), 0, r"expected model.width of at least 1 for a U-Net, found 0 \(in model of run.json\)"),
        (("optimizer", "lr"), None, "expected optimizer.lr = a number in run.json, found None"),
        (("optimizer", "lr"), 1e9, r"expected optimizer.lr = a number below 1e\+09 in run.json, found 1000000000.0"),
        (("method_options", "queue"), 1.5, "expected method.queue = a whole number in run.json, found 1.5"),
        (("branches", "lcr"), {}, "expected branch.lcr.weight = a number in run.json, found nothing"),
        (("train", "mine"), 1, r"unknown key 'train.mine'; known: .*train.deterministic, .* \(in run.json\)"),
        (("crop",), {"policy": "random"}, r"unknown key 'crop'; known: branches, data, .* \(in run.json\)"),
        (("data",), [], r"expected data = a table in run.json, found \[\]"),
        (("views",), None, "expected views = a table in run.json, found None"),
        (("branches",), [], "expected branches = a table in run.json"),
        (("seed",), None, "expected seed = a whole number in run.json, found None"),
    ],
)
def test_a_wrong_setting_of_a_run_is_named(path: tuple[str, ...], value: Any, says: str) -> None:
    plain: Any = paper("moco-v2", "lcr").to_dict()
    inner = plain[path[0]] if path[1:] else plain
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=says):
        Config.from_dict(plain)


def test_a_run_that_lacks_a_setting_is_refused() -> None:
    """As those of versions that did not have it yet."""
    plain = paper("moco-v2", "lcr").to_dict()
    del plain["train"]["record"]
    with pytest.raises(ValueError, match=r"^expected train.record = one of auto, off in run.json, found nothing$"):
        Config.from_dict(plain)


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nepochs = 5\nbatch_size = 4\n[method]\nalpha = 50\n")
    config = conrec(config_file=file, overrides=["train.batch_size=8"], options={"train.eval_every": 2})
    assert (config.train.epochs, config.train.batch_size, config.train.eval_every) == (5, 8, 2)
    assert config.method_options["alpha"] == 50.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown setting 'train.epoch'.*did you mean 'train.epochs'"),
        ("train.epochs=many", "expected train.epochs = a whole number, found 'many'"),
        ("train.epochs=2.5", "expected train.epochs = a whole number, found 2.5"),
        ("train.epochs=0", "expected train.epochs = a whole number of at least 1, found 0"),
        ("optimizer.lr=nan", "expected optimizer.lr = a number of at least 0"),
        ("optimizer.lr=true", "expected optimizer.lr = a number, found True"),
        ("optimizer.momentum=1", "expected optimizer.momentum = a number below 1, found 1"),
        ("optimizer.name=adam", "one of lars, larc, sgd, adamw, found 'adam'; did you mean 'adamw'"),
        ("model.pooling=max", "expected model.pooling = one of gap, attention, found 'max'"),
        ("method.temperature=x", "expected method.temperature = a number, found 'x'"),
        (
            "branch.contrastive-crop.alpha=0.5",
            "expected the branch of branch.contrastive-crop.alpha, found none; type: --branch contrastive-crop$",
        ),
        ("method.beta=1", r"unknown setting 'method.beta'; of \d+ the most alike: ([^,]+, ){5}[^,]+$"),
        ("alpha", "expected NAME=VALUE after --set, found 'alpha'"),
        ("=3", "expected NAME=VALUE"),
        ("train=3", "unknown setting 'train'"),
    ],
)
def test_mistakes_are_one_line(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        conrec(overrides=[override])
    assert "\n" not in str(caught.value)


def test_unknown_preset_and_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown preset 'papre'; known: paper, quick; did you mean 'paper'"):
        conrec(preset="papre")
    file = tmp_path / "broken.toml"
    file.write_text("[train\nepochs = ")
    with pytest.raises(ValueError, match="expected TOML in") as caught:
        conrec(config_file=file)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_override_is_taken_or_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        conrec(overrides=[text])
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


def test_overrides_are_toml_or_bare_words() -> None:
    parsed = parse_overrides(["a=1", "b=1.5", "c=true", 'd="x"', "e=word", "f.g=-2e-3", "h=1\nx2=2"])
    assert parsed == {"a": 1, "b": 1.5, "c": True, "d": "x", "e": "word", "f.g": -2e-3, "h": "1\nx2=2"}
    assert parse_overrides(["a=.2", "b=-.5e1", "c=.word"]) == {"a": 0.2, "b": -5.0, "c": ".word"}


def test_a_set_that_an_option_overrules_is_said() -> None:
    options = {"train.epochs": 1, "train.batch_size": 4}
    lines = overridden(["train.epochs=0", "train.batch_size=4", "optimizer.lr=1"], options)
    assert lines == ["warning: train.epochs=0 of --set does not stand: its own option says 1"]


def test_overrides_beyond_what_python_reads_are_words() -> None:
    for value in ("[" * 3000, "9" * 5000):
        assert parse_overrides([f"a={value}"]) == {"a": value}


def test_unknown_names_list_the_known_ones() -> None:
    assert nearest("method", "byoll", ["byol", "simclr"]) == (
        "unknown method 'byoll'; known: byol, simclr; did you mean 'byol'?"
    )
    with pytest.raises(ValueError, match="did you mean 'simclr'"):
        get(METHODS, "method", "simcrl")
    with pytest.raises(ValueError, match="did you mean 'byol'"):
        get(METHODS, "method", "BYOL")


VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**400)]),
    st.floats(),
    st.booleans(),
    st.text(max_size=5).map(repr),
    st.lists(st.integers(), max_size=2),
)


@given(st.sampled_from(sorted(KEYS)), VALUES)
@settings(max_examples=300)
def test_any_value_of_any_setting_builds_a_method_or_is_refused_in_one_line(key: str, value: object) -> None:
    """And what is taken is a number that a run can be made of."""
    text = str(value).lower() if isinstance(value, (bool, float)) else str(value)
    config, message = None, ""
    try:
        config = conrec(preset="quick", overrides=["model.width=2", "model.depth=3", f"{key}={text}"])
        build_method(fitted(config, typed={key}, images=40)[0], channels=1)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    if message or config is None:
        return
    flat = [v for part in config.to_dict().values() if isinstance(part, dict) for v in part.values()]
    assert all(math.isfinite(v) for v in flat if isinstance(v, float))
    assert config.optimizer.momentum < 1
