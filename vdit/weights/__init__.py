"""Weights on disk: reading, writing and, for foreign models, mapping them."""
