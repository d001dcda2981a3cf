"""The verbs of the command line, one file each; each has `main(arguments) -> exit status`."""
