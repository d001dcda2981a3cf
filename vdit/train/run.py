"""One training run, from its parts to its last checkpoint."""

from vdit.data.loader import BatchLoader
from vdit.data.mixture import order_of, parts_of
from vdit.data.sources import VideoSource
from vdit.train.checkpoint import Checkpoints
from vdit.train.ema import EMA
from vdit.train.hooks.metrics import Journal, Metrics
from vdit.train.hooks.progress import ProgressBar
from vdit.train.loop import Loop, fit
from vdit.train.optim import Optim, build_optimizer
from vdit.train.state import TrainState
from vdit.train.task import Session, Task

__all__ = ["train"]


def train(
    session: Session, task: Task, loop: Loop, optim: Optim, config: str, recorded: str | None = None
) -> str | None:
    """Train a task from its last checkpoint or from the start.

    `config` says all of the run, for its folder; `recorded` is what the folder says already, if anything.

    What cannot be trained is refused before anything is written, encoded or trained.

    Returns:
        The name of the signal that ended it early, or None when all steps are done.

    Raises:
        InputError: settings that do not fit together, the folder of another run, a damaged checkpoint, clips
            that cannot be encoded, a full disk.
        NonFinite: a loss or gradient that is not a number.
    """
    engine, folder, console = session.engine, session.folder, session.console
    task.adopt(folder)
    task.check(session.data)
    engine.arrange(task.module)
    optimizer = build_optimizer(task.module, optim)
    order = order_of(
        session.data.train, session.seed, loop.batch, engine.mesh.data_rank, engine.mesh.data_world
    )
    if engine.main:
        folder.claim(config, recorded)
    engine.barrier()
    checkpoints = Checkpoints(folder.checkpoints, loop.keep, engine.main, loop.keep_every)
    latest = checkpoints.latest()
    if latest is not None and latest.step >= loop.steps:
        console.print(f"{folder.path} is complete: {latest.step} steps done")
        return None
    if latest is not None:
        latest.require_state()
    for name, source in (("training", session.data.train), ("held out", session.data.held_out)):
        for part in parts_of(source):
            if isinstance(part, VideoSource):
                console.print(f"{name}: {part.report}", markup=False)
    work = task.prepare(session)
    if latest is not None:
        latest.load(task.module, task.borrowed)
    stepper = engine.setup(task.module, optimizer, optim.clip_norm)
    with BatchLoader(work.items, order, workers=session.data.workers) as batches:
        average = EMA(stepper.weights, loop.ema, loop.ema_every)
        state = TrainState(task.module, stepper, average, batches.state_dict(), borrowed=task.borrowed)
        if latest is not None:
            latest.restore(state)
            batches.load_state_dict(state.position)
            console.print(f"continuing {folder.path} after step {state.step}")
        journal = Journal(folder, state.step, writes=engine.main)
        weights = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
        console.print(f"training a {task.title} of {weights / 1e6:.2f} M weights on {len(work.items)} clips")
        hooks = [ProgressBar(task.title, loop.steps, console), *task.hooks(session, work, journal)]
        hooks.append(Metrics(journal, session.pace.metrics, loop.steps, engine.mean))
        stopped = fit(state, work.step, batches, engine, checkpoints, hooks, loop, optim, session.seed)
    if stopped:
        console.print(f"stopped by {stopped} after step {state.step}; the same command goes on from there")
    return stopped
