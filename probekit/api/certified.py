"""`certify` of Python: what is proved of a generator, as the command proves it."""

import io
from collections.abc import Mapping
from typing import Any

from generators import GENERATORS, Generator, register
from generators.certificates import Certificate, told
from generators.certify import bare
from probekit.api.result import plain_console
from probekit.certificate import DEFAULT_N
from probekit.certificate import certify as prove
from probekit.certificate.certify import certificate_blocks
from probekit.output.terminal import show_blocks
from probekit.registry import check_named
from probekit.reports.page import fragment


class Certified:
    """A certificate: printed as its table, in a notebook as one of HTML."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `probekit certify --json` (docs/generators.md)."""
        return dict(self._certificate)

    @property
    def sentences(self) -> list[str]:
        """What is proved, a sentence for each class factor."""
        return told(self._certificate)

    def __repr__(self) -> str:
        out = io.StringIO()
        show_blocks(certificate_blocks(self._certificate), plain_console(out))
        return out.getvalue().rstrip()

    def _repr_html_(self) -> str:
        return fragment(f"Certificate of {self._certificate['generator']}", certificate_blocks(self._certificate))


def certify(
    generator: str | type[Generator],
    *,
    n: int = DEFAULT_N,
    seed: int = 0,
    size: int = 128,
    parameters: Mapping[str, float] = {},
) -> Certified:
    """Tests whether local statistics tell the values of each class factor apart, or only the whole does.

    A ValueError for a generator or a parameter that there is not, or fewer samples than can be.

    Args:
        generator: A name (`probekit list generators`), or a class of your own.
        n: Samples, each beside its counterfactuals.
        seed: Decides the samples and the bootstrap.
        size: Pixels a side.
        parameters: Values of its parameters.
    """
    name = generator if isinstance(generator, str) else register(generator)
    check_named("generator", name, GENERATORS)
    return Certified(prove(bare(GENERATORS[name], size=size, parameters=parameters), n=n, seed=seed))
