"""What Python has of probekit, beside `probekit.load` and `probekit.Dataset`: measurements as functions."""
