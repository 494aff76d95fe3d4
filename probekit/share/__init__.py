"""Encoders for others: files that other tools read, the card that tells what they are, and the way to a hub."""
