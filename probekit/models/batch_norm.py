"""Batch norm that does not count its batches: with a fixed momentum nothing reads the count, a launch a layer."""

from torch import Tensor, nn
from torch.nn import functional as F


class _Uncounted(nn.modules.batchnorm._BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        """As torch's; its `num_batches_tracked` stays 0."""
        assert self.momentum is not None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class BatchNorm1d(_Uncounted, nn.BatchNorm1d):
    """`nn.BatchNorm1d` without the count."""


class BatchNorm2d(_Uncounted, nn.BatchNorm2d):
    """`nn.BatchNorm2d` without the count."""
