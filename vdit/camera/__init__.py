"""Cameras that a user asks for: words, paths of several moves, pose files."""
