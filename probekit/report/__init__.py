"""Reads run folders and puts runs side by side; never imports torch."""
