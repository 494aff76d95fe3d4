"""The device: which one, how precisely it computes, how a process is set up for it, and what fits its memory."""

import ctypes
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from probekit.config import Config

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
KEPT = 2**30  # bytes: larger than any activation that is worth keeping
AMPERE = (8, 0)  # compute capability of the first GPUs with units for bfloat16

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


def find_device(name: str) -> torch.device:
    """The device of a name; nothing is set up for it, and no memory of a GPU is taken.

    `name`: "auto" (a GPU, or the CPU where there is none), "cpu" or "cuda[:i]". A ValueError if the name is unknown, or
    the machine has no such device.
    """
    found = torch.cuda.device_count()
    try:
        device = torch.device(name if name != "auto" else "cuda" if found else "cpu")
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected --device auto, cpu or cuda[:i], found {name!r}")
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"expected device {name}, found {found} GPUs; type: --device cpu")
    return device


def choose_device(name: str) -> torch.device:
    """The device of a name, as `find_device`, a GPU with its index; the process is set up for it."""
    device = find_device(name)
    if device.type == "cpu":
        keep_freed_memory()
        return device
    device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    torch.cuda.set_device(device)  # else what is asked of "the GPU", and every new stream, is about the first one
    allow_tf32(convolutions=False, products=False)  # fp32 is to mean fp32, in training and in probes
    return device


def allow_tf32(*, convolutions: bool, products: bool) -> None:
    """Whether a GPU may round the operands of float32 convolutions and matrix products to 10 bits of mantissa.

    It overrides TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, which NVIDIA's containers set and which is torch's default only.
    """
    # Torch 2.9 added `fp32_precision`. These setters keep it in step, but it leaves these behind, and where the two
    # differ torch.compile and `cudnn.flags` fail as they ask. Versions since then may warn that these are of old.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


def compute_deterministically(device: torch.device) -> None:
    """Makes a GPU give the same bits for the same input, more slowly; a CPU does so by itself.

    To be called before the process computes anything on the GPU. Sums by cluster and the backward pass of bilinear
    resizing then take torch's own deterministic ways; an operator that has none raises a RuntimeError that names it.
    """
    if device.type == "cpu":
        return
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS and torch read it at the first matrix product
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # Not warn_only: under it, attention that saves memory stays as it is.
    torch.use_deterministic_algorithms(True)
    # A debugging aid that costs a kernel a tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU without units for it emulates, 80 times slower (docs/log.md)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    # Torch has no public question for this yet. The second sees ONEDNN_MAX_CPU_ISA, which may keep the units out.
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    used: bool = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)()
    return used and any(getattr(torch.cpu, name, lambda: False)() for name in units)


def with_precision(config: Config, device: torch.device) -> Config:
    """The configuration with `train.precision` "auto" made "bf16" or "fp32"."""
    if config.train.precision != "auto":
        return config
    return replace(config, train=replace(config.train, precision="bf16" if has_bf16(device) else "fp32"))


def default_preset(device: torch.device) -> str:
    """`paper` on a GPU, `quick` on a CPU."""
    return "paper" if device.type == "cuda" else "quick"


def describe_device(device: torch.device) -> str:
    """A device for the reader, with the GPU's name or the number of threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


def keep_freed_memory() -> bool:
    """Lets the C library keep what a CPU frees, for the next activation, in place of giving it back to the system.

    By default each activation of some MB is mapped anew and faulted in page by page, which takes as long as the
    convolutions do (docs/log.md, 2026-11-21). Resident memory grows by a few per cent. Changes no number. Returns
    whether it could be set: it is a matter of the GNU C library, and others are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, 2 * KEPT - 1))


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
