"""Checkpoints: plain tensors and numbers that load with `weights_only=True`, written whole or not at all."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from probekit.files import replaced, replaced_file
from probekit.models.encoder import check_header
from probekit.models.tensor_files import read_torch

FORMAT = "probekit-checkpoint/1"
PARTS = ("method", "optimizer", "rng", "progress", "encoder_header")


def save_checkpoint(paths: Sequence[Path], content: dict[str, Any]) -> None:
    """Writes a checkpoint to each path in turn, whole or not at all: a kill leaves the old one."""
    first, *others = paths
    with replaced_file(first) as file:
        torch.save({"format": FORMAT, **content}, file)
    for path in others:
        with replaced(path) as temporary:
            shutil.copyfile(first, temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint; a ValueError if there is none, it is not of this format, or not as it was written."""
    if not path.exists():
        raise ValueError(
            f"expected a checkpoint {path}, found none; the run was stopped before its first one: "
            "type --overwrite instead of --resume"
        )
    content = read_torch(path, device)
    if content.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT} in {path}; it was written by another version")
    missing = [part for part in PARTS if not isinstance(content.get(part), dict)]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} in {path}, found none")
    if not isinstance(content["progress"].get("epoch"), int):
        raise ValueError(f"expected a number of epochs in {path}, found none")
    check_header(content["encoder_header"], path)
    return content


def rng_state(device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Every random state that training reads: the global ones (dropout) and the views'."""
    state = {"global": torch.get_rng_state(), "views": generator.get_state()}
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: dict[str, Any], device: torch.device, generator: torch.Generator) -> None:
    """Puts back what `rng_state` took; a ValueError if it was taken on the other kind of device."""
    kind = "cuda" if "device" in state else "cpu"
    if kind != device.type:
        raise ValueError(
            f"expected --device {kind}, on which the run started, found {device.type}; type: --device {kind}"
        )
    torch.set_rng_state(state["global"].cpu())
    generator.set_state(state["views"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
