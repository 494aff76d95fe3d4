"""Checkpoints: plain tensors and numbers that load with `weights_only=True`, written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

FORMAT = "probekit-checkpoint/1"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint beside its final name, then renames it: a kill leaves the old one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint.

    Raises:
        ValueError: If there is none, or it is not of this format.
    """
    if not path.exists():
        raise ValueError(
            f"expected a checkpoint {path}, found none; the run was stopped before its first one: "
            "type --overwrite instead of --resume"
        )
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"expected a checkpoint in {path}, found: {first}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT} in {path}; it was written by another version")
    return content


def rng_state(device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Every random state that training reads: the global ones (dropout) and the views'."""
    state = {"global": torch.get_rng_state(), "views": generator.get_state()}
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: dict[str, Any], device: torch.device, generator: torch.Generator) -> None:
    """Puts back what `rng_state` took.

    Raises:
        ValueError: If it was taken on the other kind of device.
    """
    kind = "cuda" if "device" in state else "cpu"
    if kind != device.type:
        raise ValueError(
            f"expected --device {kind}, on which the run started, found {device.type}; type: --device {kind}"
        )
    torch.set_rng_state(state["global"].cpu())
    generator.set_state(state["views"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
