"""Tests of probekit.probes."""
