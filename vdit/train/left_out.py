"""What a run does not use of its data: said at each start, and written whole into its folder."""

import json
from dataclasses import asdict

from vdit.data.mixture import parts_of
from vdit.data.sources import VideoSource
from vdit.train.task import Session, Task
from vdit.weights.files import disk_refusal, write_whole

__all__ = ["tell_left_out"]


def tell_left_out(session: Session, task: Task, dry: bool) -> None:
    """Say what the clips of a run come from, and what is left out of files, rows and captions.

    The first process does, for all. The terminal shows a part where there is much; the folder has all of it,
    of the last start.

    Raises:
        InputError: the disk is full.
    """
    console, folder, said = session.console, session.folder, {}
    for name, source in (("training", session.data.train), ("held out", session.data.held_out)):
        reports = [part.report for part in parts_of(source) if isinstance(part, VideoSource)]
        for report in reports:
            console.print(f"{name}: {report}", markup=False)
        captions = task.captions(source)
        for line in [] if captions is None else captions.lines():
            console.print(f"{name}: {line}", markup=False)
        said[name] = {
            "sources": [asdict(report) for report in reports],
            "captions": None if captions is None else asdict(captions),
        }
    if dry:
        return
    try:
        write_whole(folder.left_out, [json.dumps(said, indent=1, ensure_ascii=False), "\n"])
    except OSError as error:
        raise disk_refusal(error, folder.path, "The run was not begun.") from error
