"""What a hook is, and when it is called."""

from vdit.train.state import StepRecord, TrainState

__all__ = ["Hook", "due"]


class Hook:
    """Something that happens beside training. A hook writes the moments it needs; the others stay empty.

    The loop calls, in this order:

        start       once, before the first step of a session (a resumed run has several sessions)
        after_step  after every step, once the weights and their average have moved
        finish      once, when the session ends for whatever reason but a disk that does not answer

    Attributes:
        lengthy: whether `after_step` may take longer than an exchange of a step may.
    """

    lengthy = False

    def start(self, state: TrainState) -> None: ...

    def after_step(self, state: TrainState, record: StepRecord) -> None: ...

    def finish(self, state: TrainState) -> None: ...


def due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every `every` steps, and after the last one, happens after `step`."""
    return step == last or (every > 0 and step % every == 0)
