"""Tests of probekit.probe."""
