"""One training run, from its parts to its last checkpoint."""

import math
import secrets
from collections import Counter
from contextlib import ExitStack
from functools import partial

from torch.optim import Optimizer

from vdit.data.loader import BatchLoader
from vdit.data.mixture import order_of, parts_of
from vdit.data.order import Position
from vdit.data.unreadable import Unreadable
from vdit.parallel.agreement import Agreement
from vdit.parallel.engine import Engine
from vdit.parallel.weights import Weights
from vdit.train.checkpoint import Checkpoints
from vdit.train.claim import Claimed, Command, agreed, claim
from vdit.train.ema import EMA
from vdit.train.hooks.health import Health
from vdit.train.hooks.hook import Hook
from vdit.train.hooks.metrics import Journal, Metrics
from vdit.train.hooks.progress import ProgressBar
from vdit.train.left_out import tell_left_out
from vdit.train.loop import Loop, fit
from vdit.train.notes import tell_notes
from vdit.train.optim import Optim, build_optimizer, learning_rate
from vdit.train.reading import Reader, Unread, UnreadableClips
from vdit.train.run_clips import RunClips
from vdit.train.run_folder import RunFolder, steps_of
from vdit.train.saving import Writers
from vdit.train.sessions import Sessions
from vdit.train.state import TrainState
from vdit.train.task import Session, Task, Work
from vdit.types import ClipBatch, ClipSource

__all__ = ["train"]

BEFORE_TIMEOUT = 0.8
"""Of the time that a process may stand still, after which it does not wait for clips any longer: those that
wait for it shall be there when it says so, and save with it."""


def train(session: Session, task: Task, loop: Loop, optim: Optim, command: Command) -> str | None:
    """Train a task from its last checkpoint or from the start.

    What cannot be trained is refused before anything is written, encoded or trained. A `dry` run stops before
    the first step, with a first batch read and the folder as it was.

    Returns:
        The name of the signal that ended it early, or None when all steps are done.

    Raises:
        InputError: settings or clips that will not do, another run's folder, a damaged state, a full disk.
        NonFinite: a loss or gradient that is not a number.
    """
    engine = session.engine
    task.adopt(session.folder)
    task.check(session.data)
    engine.arrange(task.module)
    engine.require(optimizer := build_optimizer(task.module, optim))
    order_of(session.data.train, session.seed, loop.batch, world=engine.mesh.data_world)  # refuses a batch
    with ExitStack() as held:
        checkpoints = checkpoints_of(session.folder, engine, loop)
        claimed = claim(session, task, checkpoints, command, held)
        before = loop.steps if command.recorded is None else steps_of(command.recorded)
        return carry_out(session, task, loop, optim, optimizer, checkpoints, claimed, command.dry, before)


def carry_out(
    session: Session,
    task: Task,
    loop: Loop,
    optim: Optim,
    optimizer: Optimizer,
    checkpoints: Checkpoints,
    claimed: Claimed,
    dry: bool,
    before: int,
) -> str | None:
    """Train what is checked, from where the folder that is now ours stands; see `train`.

    `before` are the steps that the run was to have when it was last worked on.
    """
    engine, folder, console = session.engine, session.folder, session.console
    clips, latest = claimed.clips, claimed.latest
    if latest is not None:
        if latest.step >= loop.steps:
            console.print(f"{folder.path} is complete: {latest.step} steps done", soft_wrap=True)
            return None
        latest.require_state(checkpoints.writers)
    agreed(engine, lambda: tell_left_out(session, task, dry))
    tell_notes(session, task.notes(session.data))
    work = task.prepare(session)
    if latest is not None:
        latest.load(task.module, task.borrowed)
    elif (began := task.begin()) and not dry:
        console.print(f"beginning with step {began['step']} of {began['run']}", soft_wrap=True)
        agreed(engine, lambda: folder.note_start(began))
    stepper = engine.setup(task.module, optimizer, optim.clip_norm)
    average = EMA(stepper.weights, loop.ema, loop.averages_every)
    unreadable = unreadable_of_run(session, work, clips, writes=engine.main and not dry)
    with loader_of(session, work, loop, clips) as ahead:
        batches = Reader(ahead, engine, unreadable, partial(console.print, markup=False, soft_wrap=True))
        state = TrainState(task.module, stepper, average, batches.state_dict(), borrowed=task.borrowed)
        if latest is not None:
            latest.restore(state)
            ahead.load_state_dict(clips.position(state.position))
            console.print(f"continuing {folder.path} after step {state.step}", soft_wrap=True)
            if before != loop.steps:
                console.print(longer(optim, state.step, before, loop.steps), soft_wrap=True)
        if dry:
            console.print(f"dry run: {told(first_of(batches))}; all is ready for step {state.step + 1}")
            return None
        console.print(f"training a {task.title} of {size_of(stepper.weights)} on {len(work.items)} clips")
        hooks = hooks_of(session, task, work, loop, state)
        stopped = fit(state, work.step, batches, engine, checkpoints, hooks, loop, optim, session.seed)
    if stopped:
        console.print(f"stopped by {stopped} after step {state.step}; the same command goes on from there")
    return stopped


def loader_of(session: Session, work: Work, loop: Loop, clips: RunClips) -> BatchLoader:
    """Batches of this process, by the numbers of the run."""
    mesh, source, workers = session.engine.mesh, session.data.train, session.data.workers
    rank, world = mesh.data_rank, mesh.data_world
    order = order_of(source, session.seed, loop.batch, rank, world, clips.counts)
    patience = BEFORE_TIMEOUT * session.engine.parallel.timeout
    items, name_of = clips.placed(work.items), partial(clips.name, source)
    return BatchLoader(items, order, workers=workers, name_of=name_of, patience=patience)


def unreadable_of_run(session: Session, work: Work, clips: RunClips, writes: bool) -> UnreadableClips:
    """What the run does without, so far. Raises InputError where that is too much."""
    file, share = session.folder.unreadable, session.data.max_unreadable
    most = partial(clips_of_a_video, session.data.train)
    found = UnreadableClips(file, clips.unreadable, sum(clips.counts), share, most, writes)
    numbers = clips.numbers(work.missing)
    missing = {numbers[clip]: why for clip, why in work.missing.items()}
    names = partial(clips.name, session.data.train)
    found.add(Unreadable(clip, names(clip), why, Position()) for clip, why in missing.items())
    if found.known:
        session.console.print(found.said, markup=False, soft_wrap=True)
    found.require_few()
    return found


def clips_of_a_video(source: ClipSource) -> int:
    """Clips that are lost with one video at most; all are gone through for it."""
    return max(max(Counter(map(part.video, range(len(part)))).values()) for part in parts_of(source))


def first_of(batches: Reader) -> ClipBatch:
    """The next batch. Raises what it failed with."""
    try:
        return next(batches)
    except Unread as unread:
        raise unread.error from None


def checkpoints_of(folder: RunFolder, engine: Engine, loop: Loop) -> Checkpoints:
    """Those of a run, which all processes of this session write together."""
    session = engine.gathered([secrets.token_hex(4)])[0]
    mesh, parallel = engine.mesh, engine.parallel
    agreement = Agreement(mesh.world, parallel.patience)
    writers = Writers(mesh.rank, mesh.world, session, agreement, parallel.timeout)
    return Checkpoints(folder.checkpoints, loop.keep, loop.keep_every, writers, loop.background)


def hooks_of(session: Session, task: Task, work: Work, loop: Loop, state: TrainState) -> list[Hook]:
    """What happens beside the steps: of every task, and of this one."""
    engine, folder, console, every = session.engine, session.folder, session.console, session.pace.metrics
    journal = Journal(folder, state.step, writes=engine.main)
    sessions = Sessions(folder.sessions, engine.main, session.began)
    return [
        ProgressBar(task.title, loop.steps, console),
        *task.hooks(session, work, journal),
        Health(engine, journal, console, folder.spikes, sessions, every, loop.steps, loop.leap),
        Metrics(journal, every, loop.steps, engine.mean),
    ]


def longer(optim: Optim, done: int, before: int, steps: int) -> str:
    """What more steps than a run was to have make of its learning rate, which depends on their number."""
    was, now = (learning_rate(optim, done, total) for total in (before, steps))
    if was == now:
        return f"{steps} steps instead of {before}"
    return (
        f"{steps} steps instead of {before}: the learning rate after step {done} is {now:.3g}, where it was "
        f"to be {was:.3g}, and goes on as in a run of {steps} steps (optim.decay {optim.decay})"
    )


def size_of(weights: Weights) -> str:
    """How many weights are trained, in words, however ranks share them."""
    return f"{sum(math.prod(entry.shape) for entry in weights.entries().values()) / 1e6:.2f} M weights"


def told(batch: ClipBatch) -> str:
    """A batch in words."""
    clips = batch.pixels if batch.latents is None else batch.latents
    kind = "pixels" if batch.latents is None else "latents"
    shape = "x".join(map(str, clips.shape[1:])) if clips is not None else "nothing"
    return f"the first batch of this process is {len(batch)} clips of {kind} {shape}"
