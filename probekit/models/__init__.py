"""Encoders, pooling, heads and decoders."""

from probekit.models.encoder import Encoder, Features, build_encoder, load_encoder, save_encoder
