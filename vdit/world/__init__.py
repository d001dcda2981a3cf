"""The built-in captioned video world: scenes drawn from a seed, their exact renders, and judges."""
