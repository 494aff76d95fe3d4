"""What maps are compared with: counterfactuals, targets, fills, baselines, and the sanity check.

Alone: pytest tests/heatmaps/test_truth.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from generators import GENERATORS
from probekit.data.generate import generate
from probekit.data.truth import read_truth
from probekit.h5 import decode_photograph, read_info, read_split
from probekit.heatmaps.base import Classifier
from probekit.heatmaps.measurement import FILLS, TARGETS
from probekit.heatmaps.perturb import judge, similarity
from probekit.heatmaps.protocol import BASELINES
from probekit.heatmaps.targets import fill, make_targets, mean_colour
from probekit.probes.linear import Space, fit
from probekit.probes.protocol import Part, fit_label, probe
from tests.datasets import edited, small_shapes
from tests.h5.test_photographs import photographs


@pytest.fixture(scope="module", params=GENERATORS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "set.h5"
    small_shapes(path, generator=request.param, n=8, n_test=24, size=64, parameters={"noise_sd": 0.1})
    return path


def test_counterfactuals_differ_where_the_evidence_says_and_nowhere_else(dataset: Path) -> None:
    truth = read_truth(read_info(dataset), "test", 24)
    assert set(truth.counterfactuals) == {n.removeprefix("evidence:") for n in truth.masks if n.startswith("evidence:")}
    for factor, counterfactual in truth.counterfactuals.items():
        np.testing.assert_array_equal(truth.split.images != counterfactual.images, truth.masks[f"evidence:{factor}"])
        assert truth.split.labels is not None
        assert (counterfactual.labels != truth.split.labels).all()


def test_masks_that_a_file_does_not_hold_are_drawn_anew(dataset: Path, tmp_path: Path) -> None:
    held = read_truth(read_info(dataset), "test", 24)
    name, settings, out = held.info.generator, {"noise_sd": 0.1}, tmp_path / "a.h5"
    info = generate(name, out=out, n=8, n_test=24, size=64, parameters=settings, masks=False)
    anew = read_truth(info, "test", 24)
    assert anew.split.masks is None
    assert list(anew.masks) == list(held.masks)
    for name, mask in held.masks.items():
        np.testing.assert_array_equal(anew.masks[name], mask)


@pytest.mark.parametrize("damage", ["nan", "infinite", "turned", "kind", "other images", "other settings"])
@pytest.mark.filterwarnings("error")
def test_counterfactuals_of_other_images_than_the_generator_draws_are_refused(damage: str, tmp_path: Path) -> None:
    """Nobody would see that the counterfactuals are those of another image."""
    path = tmp_path / "set.h5"
    small_shapes(path, n=4, n_test=4, size=32)
    with edited(path) as file:
        angles = file["test/factors/angle"]
        if damage == "other images":
            file["test/images"][1, 4, 4] ^= 255
        elif damage == "other settings":
            file.attrs["parameters"] = file.attrs["parameters"].replace('"contrast": 1.0', '"contrast": 0.5')
        elif damage == "kind":
            values = angles[:]
            del file["test/factors/angle"]
            file["test/factors"].create_dataset("angle", data=values.astype("S8"), chunks=(4,))
        else:
            angles[2] = {"nan": np.nan, "infinite": np.inf, "turned": angles[2] + 45}[damage]
    truth = read_truth(read_info(path), "test", 4)
    with pytest.raises(ValueError, match="images that rect-tri draws of its settings and factors, found others"):
        _ = truth.counterfactuals


def test_rows_are_evenly_spaced_and_masks_are_theirs(dataset: Path) -> None:
    info = read_info(dataset)
    some, every = read_truth(info, "test", 5), read_truth(info, "test", 99)
    assert some.index.tolist() == [0, 6, 12, 17, 23]
    assert len(every.index) == 24
    for name, mask in some.masks.items():
        np.testing.assert_array_equal(mask, every.masks[name][some.index])


def test_of_minimal_pairs_only_the_base_images_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "pairs.h5"
    small_shapes(path, n=2, n_test=6, pairs=True)
    truth = read_truth(read_info(path), "test", 4)
    assert truth.index.tolist() == [0, 6, 9, 15]  # base, corner changed, triangle changed, base, ...
    assert set(truth.split.factors["pair_role"].astype("S")) == {b"base"}


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize(("n", "dim"), [(60, 8), (20, 50)])
def test_a_probe_unfolds_to_weights_of_the_features_as_given(n: int, dim: int, standardise: bool) -> None:
    rng = np.random.default_rng(0)
    x, other = (rng.normal(2, 3, (m, dim)) * np.linspace(0.1, 5, dim) for m in (n, 7))
    x[:, 3] = 1.5  # constant: no scale
    y = rng.integers(0, 3, n)
    space = Space.of(x, standardise=standardise)
    fitted = fit(space.z, y, C=0.1)
    weight, bias = space.unfold(fitted)
    direct = space.project(other) @ fitted.weight.T + fitted.bias
    np.testing.assert_allclose(other @ weight.T + bias, direct, rtol=1e-8, atol=1e-8)


def test_the_explained_probe_is_the_one_that_is_scored() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(3), 40)
    x = rng.normal(0, 1, (120, 6)) + np.eye(6)[y] * 2
    part = Part(x, y)
    space, fitted = fit_label(part, classes=3, protocol="tuned", seed=0)
    row = probe("x", "encoder", part, part, classes=["a", "b", "c"], protocol="tuned", seed=0)
    assert row["C"] == fitted.C
    accuracy = (fitted.log_probability(space.project(x), classes=3).argmax(axis=1) == y).mean()
    assert accuracy == pytest.approx(row["accuracy"])


def classifier() -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(2)
    y = np.repeat(np.arange(3), 30)
    x = rng.normal(0, 1, (90, 5)) + np.eye(5)[y]
    space = Space.of(x, standardise=False)
    ours = Classifier.of(space, fit(space.z, y, C=1.0), classes=4, device=torch.device("cpu"))
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(x, y)
    pooled, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    expected = torch.from_numpy(oracle.predict_proba(x)).gather(1, labels[:, None])[:, 0].float()
    torch.testing.assert_close(ours.probability(pooled, labels), expected, rtol=1e-3, atol=1e-4)
    return ours, pooled, labels


def test_targets_are_logits_and_their_differences() -> None:
    probe_, pooled, labels = classifier()
    logits = probe_.logits(pooled)
    rows = torch.arange(len(labels))
    others = ((labels + 1) % 3).numpy()

    def value(name: str, key: str = "") -> torch.Tensor:
        target = make_targets(name, probe_, labels, pooled, {"shape": others})[key]
        return target.score(pooled)

    own = logits[rows, labels]
    torch.testing.assert_close(value("logit"), own)
    torch.testing.assert_close(value("pair", "shape"), own - logits[rows, torch.from_numpy(others)])
    best = torch.stack([max(logits[i, k] for k in range(3) if k != labels[i]) for i in rows])
    torch.testing.assert_close(value("margin"), own - best)
    assert set(TARGETS) == {"logit", "pair", "margin"}


def test_targets_refuse_what_is_not_there() -> None:
    probe_, pooled, labels = classifier()
    with pytest.raises(ValueError, match=r"expected images that a generator drew .* type: --target margin"):
        make_targets("pair", probe_, labels, pooled, {})
    unseen = np.full(len(labels), 3)
    with pytest.raises(ValueError, match=r"--target pair.* changing shape .*; type: --target margin"):
        make_targets("pair", probe_, labels, pooled, {"shape": unseen})


def test_of_two_classes_neither_logit_is_nothing() -> None:
    """The fit keeps one row of weights for two classes; a map of the class without one would be zero everywhere."""
    rng = np.random.default_rng(4)
    y = np.repeat([0, 2], 30)
    space = Space.of(rng.normal(0, 1, (60, 5)) + np.eye(5)[y], standardise=True)
    ours = Classifier.of(space, fit(space.z, y, C=1.0), classes=3, device=torch.device("cpu"))
    torch.testing.assert_close(ours.weight[0], -ours.weight[2])
    torch.testing.assert_close(ours.bias[0], -ours.bias[2])
    assert ours.weight[0].norm() > 0
    assert ours.bias[1] == -torch.inf


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 16, 16, 3)])
@pytest.mark.parametrize("name", FILLS)
def test_fills(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    images, counterfactuals = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    found = fill(name, images, mean=np.array([40.0]), counterfactuals=counterfactuals)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    flat = {"black": 0, "grey": 128, "mean": 40}
    if name in flat:
        assert (found == flat[name]).all()
    if name == "counterfactual":
        np.testing.assert_array_equal(found, counterfactuals)
    if name == "blur":
        assert 0 < found.std() < 0.4 * images.std()
        np.testing.assert_allclose(found.mean(), images.mean(), atol=5)


def test_a_fill_without_counterfactuals_says_what_to_type() -> None:
    images = np.zeros((1, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="no counterfactuals; type: --fill mean"):
        fill("counterfactual", images)


@pytest.mark.parametrize("shape", [(9, 5, 4), (9, 5, 4, 3)])
def test_the_mean_colour_is_over_all_pixels_whatever_the_parts(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_allclose(mean_colour([images[:2], images[2:]]), np.atleast_1d(images.mean(axis=(0, 1, 2))))


@pytest.mark.parametrize("shape", [(4, 24, 24), (4, 24, 24, 3)])
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_functions_of_each_image(name: str, shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    images[:, 6:12, 8:20] = 200
    index = np.array([5, 2, 9, 7])
    together = BASELINES[name](images, index, (6, 6), 0)
    alone = np.concatenate([BASELINES[name](images[i : i + 1], index[i : i + 1], (6, 6), 0) for i in range(4)])
    np.testing.assert_array_equal(together, alone)
    assert together.shape[1:] in ((24, 24), (6, 6))
    one = BASELINES[name](images[:1], index[:1], (6, 6), 0)
    assert one.flags.writeable, "torch warns of what it cannot write to"
    if name == "ink":
        np.testing.assert_array_equal(together[0], images[0].reshape(24, 24, -1)[..., 0] > 0)
    if name == "edges":
        assert together[0, 9, 14] == 0 < together[0, 6, 14]
    if name == "centre":
        assert together[0].max() == together[0, 11, 11] == together[0, 12, 12]
    if name == "random":
        assert not np.array_equal(together[0], together[1])


def noise(seed: int, n: int = 40) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, 6, 6)).astype(np.float32)


def test_similarity_is_spearmans() -> None:
    a, b = noise(0), noise(1) + noise(0)
    a[:, 0] = 0  # ties
    expected = [spearmanr(np.abs(x).ravel(), np.abs(y).ravel()).statistic for x, y in zip(a, b, strict=True)]
    assert similarity(a, b) == pytest.approx(np.mean(expected))
    assert similarity(a, np.ones_like(a)) == 0


def test_maps_that_change_with_the_weights_pass() -> None:
    verdict = judge(noise(0), [noise(seed) for seed in range(1, 5)], {"head": noise(0), "level 1": noise(1)})
    assert verdict["cascade"][0] == pytest.approx(1)
    assert verdict["passes"] == (verdict["similarity"] <= verdict["null"][1])
    shared = noise(9)
    verdict = judge(noise(0), [shared + noise(seed) for seed in range(1, 5)], {})
    assert verdict["passes"]


def test_an_edge_detector_fails() -> None:
    """It shows the same whatever the weights are."""
    edges = noise(0)
    assert not judge(edges, [edges] * 4, {})["passes"]


def test_a_map_that_random_weights_share_with_the_trained_ones_fails() -> None:
    trained = noise(0)
    assert not judge(trained, [trained + 0.5 * noise(seed) for seed in range(1, 5)], {})["passes"]


def test_of_photographs_only_those_are_decoded_that_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photographs(tmp_path / "a.h5", 40)
    rows = read_split(path, "test", masks=True)
    assert rows.labels is not None
    assert rows.masks is not None
    decoded = []

    def counted(*arguments: Any) -> Any:
        decoded.append(arguments)
        return decode_photograph(*arguments)

    monkeypatch.setattr("probekit.h5.encoded.decode_photograph", counted)
    truth = read_truth(read_info(path), "test", 3)
    assert truth.index.tolist() == [0, 10, 19]
    assert len(decoded) == 3
    np.testing.assert_array_equal(truth.split.images, rows.images[truth.index])
    np.testing.assert_array_equal(truth.split.labels, rows.labels[truth.index])
    np.testing.assert_array_equal(truth.masks["border"], rows.masks[truth.index] >> 1 & 1 == 1)
