#!/usr/bin/env python
"""Sample clips from a trained run.

python sample.py --run runs/demo --prompt "a small red circle moving left on a white background"
python sample.py --run runs/demo --prompts prompts.txt --seed 7 --guidance 4 --out clips
"""

import sys

from vdit.commands.command import run_command
from vdit.commands.sample import main

if __name__ == "__main__":
    sys.exit(run_command(main))
