"""What happens beside a training step: one behaviour a file."""
