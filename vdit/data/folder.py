"""A folder of videos and images with a text file of the same name beside each: the format LoRA users have."""

from pathlib import Path

from vdit.data.cut import ClipCut
from vdit.data.decode import IMAGE_ENDINGS, VIDEO_ENDINGS, Decoder
from vdit.data.sources import Entry, VideoSource
from vdit.types import InputError

__all__ = ["FolderSource"]

REFERENCE = ".reference"
"""What stands in the name of an image, after that of a video, which is a reference of it."""


class FolderSource(VideoSource):
    """The videos and images of a folder and its subfolders; `cats/a.mp4` is captioned by `cats/a.txt`.

    `cats/a.reference.png`, or several with any ending before `.png`, show who is in it; `cats/a.poses.txt` or
    `cats/a.poses.json` has a pose of the camera for each of its frames.
    """

    def __init__(
        self,
        path: Path | str,
        cut: ClipCut,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
    ):
        """Index the folder; see `VideoSource` for the arguments.

        Raises:
            InputError: no such folder, no video in it, none usable, or a caption file that is not UTF-8.
        """
        folder = Path(path)
        endings = VIDEO_ENDINGS + IMAGE_ENDINGS
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}; give a folder of videos ({' '.join(endings)})")
        files = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in endings and file.is_file() and not _hidden(file.relative_to(folder))
        )
        references = {file for file in files if REFERENCE in file.name}
        files = [file for file in files if file not in references]
        if not files:
            raise InputError(
                f"the folder {folder} holds no videos; the accepted endings are {' '.join(endings)}"
            )
        shown = {file: tuple(sorted(r for r in references if _is_of(r, file))) for file in files}
        entries = [
            Entry(
                file,
                file.relative_to(folder).as_posix(),
                _caption(file),
                references=shown[file],
                poses=_poses(file),
            )
            for file in files
        ]
        super().__init__(entries, cut, f"the folder {folder}", require_captions, decoder, verify)


def _is_of(reference: Path, video: Path) -> bool:
    return reference.parent == video.parent and reference.name.startswith(video.stem + REFERENCE)


def _poses(video: Path) -> Path | None:
    files = [video.with_suffix(ending) for ending in (".poses.txt", ".poses.json")]
    return next((file for file in files if file.is_file()), None)


def _hidden(relative: Path) -> bool:
    # Archives made on macOS hold a `._a.mp4` beside each `a.mp4`, which is no video.
    return any(part.startswith(".") for part in relative.parts)


def _caption(video: Path) -> str:
    text = video.with_suffix(".txt")
    if not text.is_file():
        return ""
    try:
        return text.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(
            f"the caption {text} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
