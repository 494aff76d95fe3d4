"""Every layer of any network by name, and what it gives: what probe, heatmap and exam read."""
