"""What a machine, or a job of many, has to be before a training is started on it: one check a file."""
