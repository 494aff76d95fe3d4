"""What `probekit probe` measures, one file each: a class like `base.Probe`, and a line in `registry.MEASUREMENTS`."""
