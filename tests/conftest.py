"""Before any test imports torchvision, an oracle: the operators that it looks up are declared."""

from benchmarks.torchvision_operators import KEPT

__all__ = ["KEPT"]
