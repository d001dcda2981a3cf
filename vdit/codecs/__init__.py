"""Video codecs: causal autoencoders between pixels and latents, one folder a family."""
