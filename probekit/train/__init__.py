"""The only training loop, its optimizers and its checkpoints."""
