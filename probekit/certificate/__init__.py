"""What local statistics tell of a set of images: the certificate of a generator, and a table of any other file."""

from probekit.certificate.certify import DEFAULT_N, SIDES, certify

__all__ = ["DEFAULT_N", "SIDES", "certify"]
