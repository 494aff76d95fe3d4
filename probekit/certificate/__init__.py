"""What local statistics tell of a set of images: the certificate of a generator, and a table of any other file."""

from probekit.certificate.certify import MIN_N, certify

__all__ = ["MIN_N", "certify"]
