"""The native codec: a causal 3D VAE of configurable depth, width and strides."""
