"""Device memory: what a run took, and which batch would fit where one does not."""

from collections.abc import Callable

import torch

LEAST = 2  # images: with one, a contrastive loss has nothing to tell apart


def batch_that_fits(attempt: Callable[[int], None], batch: int) -> int | None:
    """The first of half, a quarter, ... of a batch that an attempt does not run out of memory on.

    Args:
        attempt: Makes a step on so many images.
        batch: Images that did not fit.

    Returns:
        At least `LEAST`, or None if nothing fits.
    """
    while batch // 2 >= LEAST:
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(batch)
        except torch.OutOfMemoryError:
            continue
        return batch
    return None


def peak(device: torch.device) -> str:
    """What a GPU's tensors took at most since `reset_peak`, for the end of a sentence; nothing for a CPU."""
    if device.type != "cuda":
        return ""
    taken, whole = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    return f", at most {taken / 2**30:.2f} of {whole / 2**30:.0f} GiB of GPU memory"


def reset_peak(device: torch.device) -> None:
    """Starts the measurement of `peak`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
