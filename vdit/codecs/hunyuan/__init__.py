"""The HunyuanVideo video autoencoder: causal convolutions, group norms over the whole clip."""
