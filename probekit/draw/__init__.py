"""Pictures of what an encoder makes of images: planes, neighbours, features of patches; each beside its numbers."""
