"""Reads run folders and puts runs side by side: HTML, Markdown or JSON; never imports torch.

`collect` reads, `compare` compares, `build` and the modules of its sections say what stands in the report, `render`
writes it.
"""

SCHEMA = "probekit-report/1"  # stands in every report of each format: what carries it may be replaced
