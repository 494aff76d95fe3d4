"""Speeds as ratios to a peer or a floor in the same run; results in `results/`, GPU runs in `gpu/QUEUE.md`."""
