"""Memory: what a run took of a GPU's, what did not fit where it ran out, and which batch would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from probekit.device import describe_device

LEAST = 2  # images: with one, a contrastive loss has nothing to tell apart
# What torch raises as a plain RuntimeError where memory was taken behind its allocator: the driver's, cuBLAS's and
# cuDNN's own words (cuDNN 9 has two more than 8), and those of torch's allocator on a CPU.
WORDS = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whoever wanted it: torch, cuBLAS, cuDNN, the driver or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


@contextmanager
def told(what: str, device: torch.device, remedy: str) -> Iterator[None]:
    """Where memory runs out inside, says what did not fit: it is not the batch.

    A ValueError in place of the error that says so; others pass.

    Args:
        what: The subject of "... do not fit into the memory of".
        remedy: What to do, and to type.
    """
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        raise ValueError(f"{what} do not fit into the memory of {describe_device(device)}; {remedy}") from error


def more_room(batch: int) -> str:
    """What to do where something needs room beside a step of so many images."""
    return (
        f"they need room beside a step of {batch} images; start the run with --batch-size {max(LEAST, batch // 2)}, "
        "or with --set data.placement=host"
    )


def batch_that_fits(attempt: Callable[[int], None], batch: int) -> int | None:
    """The first of half, a quarter, ... of a batch that an attempt does not run out of memory on.

    `attempt`: makes a step on so many images; `batch`: images that did not fit. Returns at least `LEAST`, or None if
    nothing fits.
    """
    while batch // 2 >= LEAST:
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(batch)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
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
