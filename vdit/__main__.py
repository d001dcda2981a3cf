"""`python -m vdit VERB ...`, installed as `vdit`."""

import sys
from importlib import import_module

VERBS = {
    "doctor": "check a machine, or all machines of a job, before a training is started on them",
    "train": "train a codec or a text-to-video model",
    "plan": "say what a training run will need, before it runs",
    "sample": "sample clips from a trained run",
    "score": "judge a trained run on prompts it has never seen, and write its report",
    "import": "take in weights that others have published",
    "export": "write weights as other tools read them",
    "verify": "check that imported weights compute what their authors' code does",
    "camera": "draw where a camera goes",
    "bench": "measure the cost of what surrounds the model",
}
MODULES = {"import": "import_weights", "export": "export_weights"}
"""Where the module of a verb has another name; `import` is a word of the language."""


def main() -> int:
    """Run the verb on the command line; what it takes, `vdit VERB --help` tells."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb not in VERBS:
        lines = [f"  {name:8} {what}" for name, what in VERBS.items()]
        print("\n".join(["usage: vdit VERB ...", "", *lines, "", "`vdit VERB --help` tells what it takes"]))
        return 0 if verb in ("-h", "--help") else 2
    from vdit.commands.command import run_command

    return run_command(import_module(f"vdit.commands.{MODULES.get(verb, verb)}").main, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
