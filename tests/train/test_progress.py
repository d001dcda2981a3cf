import io

import torch
from rich.console import Console

from vdit.train.ema import EMA
from vdit.train.hooks.progress import ProgressBar
from vdit.train.state import Own, StepRecord, TrainState
from vdit.train.stopwatch import Stopwatch


def test_a_log_tells_the_loss_of_the_last_steps_however_seldom_it_speaks(engine):
    module, out = torch.nn.Linear(1, 1), io.StringIO()
    stepper = engine.setup(module, torch.optim.SGD(module.parameters()), 1.0)
    state = TrainState(module, stepper, EMA(stepper.weights, 0.9), {})
    bar = ProgressBar("flow", 100, Console(file=out))
    bar.start(state)
    for step in range(1, 101):
        state.step, state.seconds = step, 0.01 * step
        own = Own((), torch.zeros(0), Stopwatch(engine.device), 0.0)
        loss, norm = torch.tensor(1.0 if step <= 50 else 0.0), torch.tensor(1.0)
        bar.after_step(state, StepRecord(step, loss, norm, 1e-3, 0.01, 8, {}, own))
    bar.finish(state)
    lines = out.getvalue().splitlines()
    assert lines[0] == "flow: 0 of 100 steps done"
    assert len(lines) == 2
    assert lines[1].startswith("flow: step 100/100  loss 0.0052")  # 0.9 ** 50
