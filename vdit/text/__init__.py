"""Text encoders: what turns a prompt into tokens that a backbone attends to."""
