"""Tests of probekit.heatmaps."""
