"""An eye test for encoders: what they read of drawings whose answers are known, in pixels, layer by layer."""
