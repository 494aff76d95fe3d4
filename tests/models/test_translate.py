"""Position tables of any grid and any prefix tokens; the oracle is what timm does with the official files.

Alone: pytest tests/models/test_translate.py
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.models import Encoder
from probekit.models.checkpoint import read_checkpoint
from probekit.models.translate import fit_positions
from probekit.models.weights import load_weights

timm = pytest.importorskip("timm")
State = dict[str, Tensor]
D = 6


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of each transformer: the rest is the same again."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **given, depth=2))


def official(name: str, *, registers: int, packed: bool) -> State:
    """What DINOv2's authors publish, in their names: one table with the class token, and registers of their own."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    tensors = {key: torch.randn_like(value) * 0.1 for key, value in model.state_dict().items() if key != "reg_token"}
    if packed:
        names = {"fc1": "w12", "fc2": "w3"}
        for key in [key for key in tensors if ".mlp." in key]:
            block, part, leaf = key.rsplit(".", 2)
            tensors[f"{block}.{names[part]}.{leaf}"] = tensors.pop(key)
    width = model.embed_dim
    tensors["pos_embed"] = torch.randn(1, 1 + 37 * 37, width)
    tensors["mask_token"] = torch.randn(1, width)
    if registers:
        tensors["register_tokens"] = torch.randn(1, registers, width)
    return tensors


@pytest.mark.parametrize(
    ("name", "registers", "packed"),
    [
        ("vit_small_patch14_dinov2", 0, False),
        ("vit_small_patch14_reg4_dinov2", 4, False),
        ("vit_giant_patch14_dinov2", 0, True),
        ("vit_giant_patch14_reg4_dinov2", 4, True),
    ],
)
def test_the_official_files_of_dinov2_give_timms_features(
    name: str, registers: int, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm reads them with a filter of its own."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    if packed:  # as deep and as wide as a test may be
        create = timm.create_model
        narrow = {"embed_dim": 48, "num_heads": 2}
        monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **given, **narrow))
    written = official(name, registers=registers, packed=packed)
    torch.save(written, tmp_path / "dinov2.pth")
    theirs = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(checkpoint_filter_fn({key: value.clone() for key, value in written.items()}, theirs))
    ours = Encoder(channels=3, pooling="gap", backbone=f"timm:{name}").eval()
    match = load_weights(ours, read_checkpoint(tmp_path / "dinov2.pth"))
    assert (match.matched, match.missing, match.misshapen) == (match.total, [], [])
    assert match.unexpected == ["mask_token"]
    x = torch.rand(1, 3, 70, 98)
    with torch.no_grad():
        expected = theirs.forward_features(x)[:, theirs.num_prefix_tokens :]
        torch.testing.assert_close(ours(x).map.flatten(2).transpose(1, 2), expected)


def tokens(**counts: int) -> State:
    return {f"{name}_token": torch.rand(1, count, D) for name, count in counts.items() if count}


KINDS = [{}, {"cls": 1}, {"cls": 1, "reg": 4}, {"cls": 1, "dist": 1}]


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("ours_joined", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=["none", "class", "class and registers", "class and distillation"])
@pytest.mark.parametrize("side", [4, 6])
def test_what_enters_the_first_block_is_the_same(
    kind: dict[str, int], joined: bool, ours_joined: bool, side: int
) -> None:
    """Token plus position, row by row, whichever of the two tables holds the prefix tokens' positions."""
    torch.manual_seed(0)
    grid, n = (4, 4), sum(kind.values())
    theirs = tokens(**kind)
    theirs["pos_embed"] = torch.rand(1, joined * n + side * side, D)
    wanted = tokens(**kind) | {"pos_embed": torch.zeros(1, ours_joined * n + 16, D)}
    made = fit_positions(theirs, wanted, grid)
    assert made is not None
    ours = theirs | made[0]
    assert ours["pos_embed"].shape == wanted["pos_embed"].shape

    def prefix(tensors: State, joined: bool) -> Tensor:
        parts = [tensors[f"{name}_token"] for name in kind]
        both = torch.cat(parts, dim=1) if parts else torch.zeros(1, 0, D)
        return both + (tensors["pos_embed"][:, :n] if joined else 0)

    torch.testing.assert_close(prefix(ours, ours_joined), prefix(theirs, joined))
    patches = theirs["pos_embed"][:, joined * n :]
    if side == 6:
        square = patches.transpose(1, 2).reshape(1, D, 6, 6)
        square = torch.nn.functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
        patches = square.flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours["pos_embed"][:, ours_joined * n :], patches)


@pytest.mark.parametrize(
    ("found", "wanted", "grid"),
    [
        ((1, 15, D), (1, 16, D), (4, 4)),  # no square
        ((1, 16, D + 1), (1, 16, D), (4, 4)),
        ((16, D), (1, 17, D), (4, 4)),
        ((1, 4, 4, D), (1, 17, D), (4, 4)),
        ((1, 16, D), (1, 20, D), (4, 4)),  # of the model itself, rows for nothing
        ((1, 0, D), (1, 16, D), (4, 4)),
        ((1, 9, D), (1, 16, D), (4, 4)),  # 9 cells, or 4 and 5 prefix tokens
    ],
)
def test_what_goes_together_in_no_or_in_two_ways_is_refused(
    found: tuple[int, ...], wanted: tuple[int, ...], grid: tuple[int, int]
) -> None:
    own: dict[str, Any] = tokens(cls=1, reg=4)
    assert fit_positions(own | {"pos_embed": torch.rand(found)}, own | {"pos_embed": torch.rand(wanted)}, grid) is None


def saved(tensors: State, path: Path) -> Path:
    torch.save(tensors, path)
    return path


def test_positions_of_another_grid_are_resampled(tmp_path: Path) -> None:
    built = Encoder(channels=3, pooling="gap", backbone="timm:test_vit")
    tensors = dict(built.backbone.model.state_dict())
    tensors["pos_embed"] = torch.rand(1, 1 + 36, 64)
    match = load_weights(built, read_checkpoint(saved(tensors, tmp_path / "vit.pt")))
    assert match.matched == match.total
    assert match.changed == ["pos_embed: positions resampled from 37 to 101"]


@pytest.mark.parametrize("extra", ["register_tokens", "dist_token", "cls_pos_embed"])
def test_tokens_that_the_model_lacks_are_refused(extra: str, tmp_path: Path) -> None:
    """A file with registers is of another network than a model without, though every tensor of it is there."""
    built = Encoder(channels=3, pooling="gap", backbone="timm:test_vit")
    tensors = {**built.backbone.model.state_dict(), extra: torch.rand(1, 4, 64)}
    with pytest.raises(ValueError, match=f"those of another network, which also has {extra};"):
        load_weights(built, read_checkpoint(saved(tensors, tmp_path / "vit.pt")))


def test_a_table_that_fits_in_no_way_is_one_line(tmp_path: Path) -> None:
    built = Encoder(channels=3, pooling="gap", backbone="timm:test_vit")
    for shape in ((1, 38, 64), (38, 64), (1, 6, 6, 64), (64,), ()):
        tensors = {**built.backbone.model.state_dict(), "pos_embed": torch.rand(shape)}
        with pytest.raises(ValueError, match=r"of another shape: pos_embed \(\S* for 1x101x64\)") as caught:
            load_weights(built, read_checkpoint(saved(tensors, tmp_path / "vit.pt")))
        assert "\n" not in str(caught.value)
