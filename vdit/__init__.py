"""Train, sample and measure video diffusion transformers.

Importing this package imports nothing heavy: torch arrives with the submodule that needs it.
"""

__version__ = "0.1.0"
