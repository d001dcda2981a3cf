"""What a person is told of the clips of a run before its first step, besides what is left out of them."""

from collections.abc import Sequence

from vdit.train.task import Data, Session

__all__ = ["tell_notes"]


def tell_notes(session: Session, notes: Sequence[str]) -> None:
    """Say what a task has noted, and whether held-out clips are of videos that are trained on."""
    for note in (*notes, *shared_videos(session.data)):
        session.console.print(f"note: {note}", markup=False, soft_wrap=True)


def shared_videos(data: Data) -> list[str]:
    """Says how many held-out clips are of videos that are trained on, if any are."""
    learnt = {data.train.video(i) for i in range(len(data.train))}
    shared = sum(data.held_out.video(i) in learnt for i in range(len(data.held_out)))
    if not shared:
        return []
    return [
        f"{shared} of {len(data.held_out)} held-out clips are of videos that are trained on: validation "
        "measures how well these are learnt by heart, not how new ones fare; without data.held_out a share "
        "of the videos is held out of training"
    ]
