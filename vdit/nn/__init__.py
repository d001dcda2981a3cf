"""Layers: torch and einops only."""
