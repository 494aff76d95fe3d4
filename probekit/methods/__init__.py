"""Self-supervised methods: one file each, named in `probekit.registry.METHODS`."""
