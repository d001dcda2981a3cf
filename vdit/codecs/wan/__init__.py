"""The Wan 2.1 and 2.2 video autoencoders: causal convolutions, and norms position by position."""
