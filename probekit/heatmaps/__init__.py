"""Attribution maps, where the encoder looks, and what they are worth."""
