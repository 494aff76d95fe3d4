"""Memory: what a run took of a GPU's, which batch would fit where one does not, and how the CPU's is kept at hand."""

import ctypes
from collections.abc import Callable

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
KEPT = 2**30  # bytes: larger than any activation that is worth keeping
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


def keep_freed_memory() -> bool:
    """Lets the C library keep what a CPU frees, for the next activation, in place of giving it back to the system.

    By default each activation of some MB is mapped anew and faulted in page by page, which takes as long as the
    convolutions do (docs/log.md, 2026-11-21). Resident memory grows by a few per cent. Changes no number.

    Returns:
        Whether it could be set: it is a matter of the GNU C library, and others are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, 2 * KEPT - 1))
