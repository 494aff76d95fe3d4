"""What all commands do alike, and these tests do not look at, is done less often."""

from collections.abc import Iterator

import pytest

from probekit.probe import protocol


@pytest.fixture(scope="package", autouse=True)
def few_strengths() -> Iterator[None]:
    """A probe's C is chosen among two, the quickest to fit: the fits along the whole grid take a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "GRID", (1e-4, 1e-2))
        yield
