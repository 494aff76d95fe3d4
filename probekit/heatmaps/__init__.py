"""Maps (where the encoder looks): one file each, named in `probekit.registry.MAPS`."""
