"""Video backbones: one folder a family, the same file names in each."""
