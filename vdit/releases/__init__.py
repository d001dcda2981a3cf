"""Whole releases of video models: what a folder holds, taking it in, giving it out."""
