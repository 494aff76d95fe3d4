"""Methods, self-supervised and supervised: one file each, named in `probekit.registry.METHODS`."""
