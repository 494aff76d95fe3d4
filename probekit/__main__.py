"""`python -m probekit`: the same as the `probekit` command."""

from probekit.cli import main

main()
