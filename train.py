#!/usr/bin/env python
"""Train a codec or a text-to-video model.

python train.py --config configs/train/flat_codec.yaml
python train.py --config configs/train/flat_dit.yaml
python train.py --config configs/train/flat_dit.yaml --optim.lr 5e-4 --out runs/mine
"""

import sys

from vdit.commands.command import run_command
from vdit.commands.train import main

if __name__ == "__main__":
    sys.exit(run_command(main))
