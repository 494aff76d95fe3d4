"""What the commands do: plain functions that wire the packages together; `probekit.cli` only parses."""
