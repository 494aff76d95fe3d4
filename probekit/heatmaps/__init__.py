"""Maps (where the encoder looks), named in `probekit.registry.MAPS`, and what they are worth."""
