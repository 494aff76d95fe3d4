"""The variants that the LCR paper compares with, in its tables 1, 4 and 5: `LCR` with other settings.

Its "MultiTask" is LCR itself, probed with `--pool gap`: the same training.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from probekit.branches.lcr import LCR


class DualPooling(LCR):
    """The branch's map pools while training, too. The paper finds that it collapses (table 4)."""

    about = "lcr whose map also pools while training (collapses in the paper)"
    name = "lcr-dual-pooling"
    defaults: ClassVar[Mapping[str, Any]] = {"train_pool": "branch"}


class SAM(LCR):
    """SAM-SSL: one filter; global average pooling at test time (`--pool gap`)."""

    about = "lcr with one filter, for --pool gap (SAM-SSL)"
    name = "lcr-sam"
    defaults: ClassVar[Mapping[str, Any]] = {"branch": "linear"}


class SAMBilinear(LCR):
    """SAM-SSL-Bilinear: the filters are fitted, and pool bilinearly in training and test (`--pool bilinear`).

    The heads take D features, so a linear layer of the branch leads from K * D to D; the paper does not say how.
    """

    about = "lcr with bilinear pooling, for --pool bilinear (SAM-SSL-Bilinear)"
    name = "lcr-sam-bilinear"
    defaults: ClassVar[Mapping[str, Any]] = {"train_pool": "bilinear"}


class Bilinear(LCR):
    """Bilinear pooling without a fit: the filters learn from the method's loss alone (MoCo v2-Bilinear)."""

    about = "bilinear pooling without a fit, for --pool bilinear"
    name = "lcr-bilinear"
    defaults: ClassVar[Mapping[str, Any]] = {"weight": 0.0, "train_pool": "bilinear"}


class Perceptron(LCR):
    """A perceptron of K hidden channels in place of the largest of K filters (table 5)."""

    about = "lcr with a perceptron in place of filters"
    name = "lcr-mlp"
    defaults: ClassVar[Mapping[str, Any]] = {"branch": "mlp"}
