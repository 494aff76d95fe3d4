"""probekit: what does an image encoder really see, the fine detail or only the gist?"""

__version__ = "0.1.0"
