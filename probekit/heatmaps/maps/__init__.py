"""Attribution maps, named in `probekit.registry.MAPS`."""
