"""What a training run will need, before it runs: memory, arithmetic, time and disk."""
