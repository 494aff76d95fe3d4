"""Encoders, pooling, heads and decoders."""
