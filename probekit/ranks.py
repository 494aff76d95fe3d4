"""This process among those that train one run together, started by torchrun; alone every function is the identity.

Each rank has every size-th image of a batch. Where a loss compares images of the whole batch, every rank computes it of
all rows (`gathered`), and the same; a loss that is a mean over images stays local. Both give gradients whose mean over
ranks is that of one process, so the trainer takes that mean (`averaged`) and nothing else changes.
"""

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

CPU = torch.device("cpu")
ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name until torch 2.12

Made = TypeVar("Made")


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_machine() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if dist.is_initialized() else 1


def fewer(n: int) -> int:
    """How many processes, of those that there are at most, could share n evenly."""
    return next(count for count in range(size(), 0, -1) if n % count == 0)


def is_first() -> bool:
    """Whether this process writes and prints: one of them does."""
    return rank() == 0


def mine(x: Tensor, views: int = 1) -> Tensor:
    """The rows of this rank's images, `[views * B / size, ...]` of `[views * B, ...]`, one view after another.

    Every size-th image, so that MoCo's groups of keys, every so-manieth too, stay whole.
    """
    if size() == 1:
        return x
    return x.view(views, -1, *x.shape[1:])[:, rank() :: size()].flatten(0, 1)


def gathered(z: Tensor, views: int = 1) -> Tensor:
    """All ranks' rows in the images' order, `[views * B, ...]` of what `mine` gives.

    The gradient is that of a loss which every rank computes of all rows, times the number of ranks, over which it is
    averaged.
    """
    return z if size() == 1 else cast(Tensor, _Gathered.apply(z, views))  # type: ignore[no-untyped-call]


class _Gathered(torch.autograd.Function):
    """`gathered`, which says why backward needs no communication."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, views: int) -> Tensor:
        ctx.views = views
        parts = _everyones(z).view(size(), views, -1, *z.shape[1:])
        return parts.movedim(0, 2).flatten(0, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return mine(gradients[0].contiguous(), ctx.views) * size(), None


def _everyones(x: Tensor) -> Tensor:
    """The tensors of all ranks, one after another, `[size * n, ...]` of `[n, ...]`."""
    found = x.new_empty(size() * len(x), *x.shape[1:])
    ALL_GATHER(found, x.contiguous())
    return found


def gathered_rows(own: Tensor, n: int) -> Tensor:
    """All n rows, of which each rank has every size-th; their number need not be a multiple of that of ranks."""
    missing = -(-n // size()) - len(own)
    return gathered(torch.cat([own, own.new_zeros(missing, *own.shape[1:])]))[:n]


@torch.no_grad()
def averaged(tensors: Sequence[Tensor]) -> None:
    """Makes each of some tensors of one type its mean over all ranks, in place, by one collective."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([in_memory(tensor) for tensor in tensors])
    dist.all_reduce(flat)
    flat.div_(size())
    torch._foreach_copy_(list(map(in_memory, tensors)), list(flat.split([tensor.numel() for tensor in tensors])))  # type: ignore[no-untyped-call]


def in_memory(x: Tensor) -> Tensor:
    """A dense tensor's numbers `[n]` as they lie in memory: a view, whatever its strides, which all ranks share."""
    return x.as_strided((x.numel(),), (1,))


def largest(*values: float) -> list[float]:
    """The largest of each number over all ranks."""
    if size() == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return cast(list[float], found.tolist())


def from_first(make: Callable[[], Made]) -> Made:
    """What rank 0 makes, for all; an error there is raised by all. Tensors in it are on the CPU."""
    if size() == 1:
        return make()
    box: list[Any] = [None, None]
    if is_first():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0, device=CPU)
    if box[1] is not None:
        raise box[1]
    return cast(Made, box[0])


def collected(own: Made) -> list[Made]:
    """What each rank has, rank after rank, for all. Tensors in it are on the CPU."""
    if size() == 1:
        return [own]
    found: list[Any] = [None] * size()
    dist.all_gather_object(found, own)
    return found


def synced(module: nn.Module, but: Collection[nn.Module] = ()) -> nn.Module:
    """Makes every batch norm in a module one over the images of all ranks, in place; names in its state stay.

    `but`: parts of it that stay as they are.
    """
    for name, child in list(module.named_children()) if size() > 1 else ():
        if child in but:
            continue
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, SyncedNorm):
            setattr(module, name, SyncedNorm(child))
        else:
            synced(child, but)
    return module


class SyncedNorm(nn.SyncBatchNorm):
    """Batch norm over the images of all ranks, each of which has as many: torch's on a GPU; that refuses a CPU.

    It takes over the tensors of `norm`, and what timm's has behind it. Batches are not counted on a CPU: with a fixed
    momentum nothing reads the count.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats, self.training = norm.affine, norm.track_running_stats, norm.training
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self._modules.update(norm._modules)  # "drop" and "act", of timm

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C]` or `[B, C, H, W]`, normalised."""
        if x.device.type != "cpu" or not self.training:
            x = super().forward(x)
        else:
            running = self.running_mean, self.running_var, self.momentum
            x = _Normalised.apply(x, self.weight, self.bias, running, self.eps)  # type: ignore[no-untyped-call]
        for after in self.children():
            x = after(x)
        return x


class _Normalised(torch.autograd.Function):
    """Batch norm by the statistics of all ranks: one collective forward, one backward. For CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, running: Any, eps: float) -> Tensor:
        mean, variance = torch.batch_norm_update_stats(x.float(), None, None, 0.0)  # a tenth of var_mean's time
        means, variances = _everyones(torch.cat([mean, variance])).view(size(), 2, -1).unbind(1)
        mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        n = size() * x.numel() // x.shape[1]
        running_mean, running_variance, momentum = running
        if running_mean is not None:
            running_mean.lerp_(mean, momentum)
            running_variance.lerp_(variance * (n / (n - 1)), momentum)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.n = eps, n
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        # As if the statistics were constants; what they add comes after.
        given, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        inverse = (variance + ctx.eps).rsqrt()
        scale = -inverse / ctx.n if weight is None else -inverse * weight / ctx.n
        shape = (1, -1, *(1,) * (x.ndim - 2))
        offset, slope = (scale * sums[0]).view(shape), (scale * inverse * sums[1]).view(shape)
        given.add_(offset).addcmul_(x - mean.view(shape), slope)
        affine = weight is not None
        return given, of_weight if affine else None, of_bias if affine and ctx.needs_input_grad[2] else None, None, None
