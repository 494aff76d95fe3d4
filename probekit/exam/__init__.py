"""The eye exam: what an encoder reads, how fine, in which layer, beside observers whose answers are known."""
