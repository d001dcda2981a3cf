"""The native family: full spacetime attention, cross-attention to text, adaLN by sigma."""
