"""Before any test imports torchvision, an oracle: the operators that it looks up are declared. And no test is timed."""

from hypothesis import settings

from benchmarks.torchvision_operators import KEPT

settings.register_profile("untimed", deadline=None)  # a busy machine must not fail a test
settings.load_profile("untimed")

__all__ = ["KEPT"]
