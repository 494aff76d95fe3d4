"""Where a run's numbers and pictures go beside its own folder: one file a logger, imported when it is asked for."""
