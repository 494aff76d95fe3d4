"""Attribution maps: one file each, named in `probekit.registry.MAPS`."""
