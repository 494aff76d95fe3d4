"""Add-ons that attach to any method: one file each, named in `probekit.registry.BRANCHES`."""
