"""Images: rendered, imported, and a split ready for use."""
