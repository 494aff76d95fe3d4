"""From a run folder, a name, a file or a module to a live encoder or method."""
