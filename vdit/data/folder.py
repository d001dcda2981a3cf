"""A folder of videos and images with a text file of the same name beside each: the format LoRA users have."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from vdit.data.cut import ClipCut
from vdit.data.decode import IMAGE_ENDINGS, VIDEO_ENDINGS, Decoder, UnreadableVideo
from vdit.data.entry import Entry, Offer
from vdit.data.report import grouped
from vdit.data.sources import VideoSource
from vdit.data.walk import walk
from vdit.types import InputError

__all__ = ["FolderSource"]

CAPTION_ENDINGS = (".txt", ".caption")
"""Of caption files; where several files are of one video, the first ending that has words counts."""
POSE_ENDINGS = (".poses.txt", ".poses.json")
REFERENCE = "reference"
"""What stands between dots in the name of an image, after that of a video, which is a reference of it."""
LIST_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


class FolderSource(VideoSource):
    """The videos and images of a folder and its subfolders; `cats/a.mp4` is captioned by `cats/a.txt`.

    `a.mp4.txt`, `a.caption` and `a.mp4.caption` are captions too. `cats/a.reference.png`, or several with any
    ending before `.png`, show who is in it; `cats/a.poses.txt` or `cats/a.poses.json` has a pose of the
    camera for each of its frames. Capital letters and ways of writing an accent make no difference, unless
    only they tell two videos apart.
    """

    def __init__(
        self,
        path: Path | str,
        cut: ClipCut,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
        where: str | None = None,
    ):
        """Index the folder; see `VideoSource` for the arguments.

        Raises:
            InputError: no such folder, no video in it, or none usable.
        """
        folder = Path(path)
        endings = " ".join(VIDEO_ENDINGS + IMAGE_ENDINGS)
        if not os.path.isdir(folder):
            raise InputError(f"there is no folder {folder}; give a folder of videos ({endings})")
        offer = _offer(folder)
        if not offer.entries:
            left_out = "; ".join(grouped((*offer.skipped, *offer.not_understood), most=5))
            raise InputError(
                f"the folder {folder} holds no videos; the accepted endings are {endings}"
                + (f" ({offer.seen} files seen; {left_out})" if left_out else "")
            )
        super().__init__(offer, cut, require_captions, decoder, verify, where)


def _offer(folder: Path) -> Offer:
    """The videos of a folder with what belongs to each, and every other file with why it is left out."""
    found = walk(folder)
    names = {file: file.relative_to(folder).as_posix() for file in found.files}
    beside, unknown = _beside(found.files)
    passed_over: dict[Path, str] = {}
    entries = [_entry(video, those, names, passed_over) for video, those in beside.items()]
    uses = Counter(name for entry in entries for name in entry.counted)
    empty = {name for entry in entries if not (entry.caption or entry.unusable) for name in entry.counted}
    remarks = []
    for file in dict.fromkeys(file for those in beside.values() for file in those):
        if uses[names[file]] > 1:
            remarks.append((names[file], "it belongs to several videos of its name"))
        if names[file] in empty and _role(file)[0] == "a caption":
            remarks.append((names[file], "this caption file has no words"))
    unused = [(names[file], why) for file, why in passed_over.items() if not uses[names[file]]]
    return Offer(
        folder,
        "files",
        found.seen,
        tuple(entries),
        (*found.skipped, *unused),
        (*found.not_understood, *((names[file], why) for file, why in unknown.items())),
        tuple(remarks),
    )


def _beside(files: Sequence[Path]) -> tuple[dict[Path, list[Path]], dict[Path, str]]:
    """The videos, each with the files that are of it; and the files that are of none, with the reason."""
    roles = {file: _role(file) for file in files}
    beside: dict[Path, list[Path]] = {file: [] for file, (role, _) in roles.items() if role == "video"}
    exact, alike = (
        defaultdict[tuple[Path, str], list[Path]](list),
        defaultdict[tuple[Path, str], list[Path]](list),
    )
    for video in beside:
        for name in {_composed(video.stem), _composed(video.name)}:
            exact[video.parent, name].append(video)
            alike[video.parent, name.casefold()].append(video)
    unknown = {}
    for file, (role, of) in roles.items():
        if role == "video":
            continue
        place = (file.parent, _composed(of))
        videos = exact.get(place) or alike.get((file.parent, place[1].casefold()), []) if role else []
        for video in videos:
            beside[video].append(file)
        if not videos:
            unknown[file] = f"{role} of no video that is here" if role else of
    return beside, unknown


def _role(file: Path) -> tuple[str, str]:
    """What a file is of a video, and the name of that video; "" and the reason where it is nothing known."""
    name, ending = file.name, file.suffix.lower()
    if ending in IMAGE_ENDINGS:
        parts = name.split(".")
        marks = [i for i, part in enumerate(parts[1:-1], 1) if part.lower() == REFERENCE]
        return ("a reference", ".".join(parts[: marks[0]])) if marks else ("video", name)
    if ending in VIDEO_ENDINGS:
        return "video", name
    for role, endings in (("poses", POSE_ENDINGS), ("a caption", CAPTION_ENDINGS)):
        for one in endings:
            if name.lower().endswith(one):
                return role, name[: -len(one)]
    if ending in LIST_ENDINGS:
        return "", f"a folder is read without {ending} files; a list of videos is read by ListSource"
    return "", f"the ending {file.suffix} is not known" if ending else "it has no ending"


def _composed(name: str) -> str:
    """A name with each accent in one character with its letter: archives of macOS have them apart."""
    return unicodedata.normalize("NFC", name)


def _entry(
    video: Path, beside: Sequence[Path], names: Mapping[Path, str], passed_over: dict[Path, str]
) -> Entry:
    """A video with all that is of it; files that others stand before go to `passed_over` with the reason."""
    of = defaultdict[str, list[Path]](list)
    for file in sorted(beside):
        of[_role(file)[0]].append(file)
    poses = sorted(of["poses"], key=lambda file: (file.suffix.lower() != ".txt", file.name))
    passed_over.update((file, f"{poses[0].name} has the poses of {video.name}") for file in poses[1:])
    unusable, caption, captions = "", "", of["a caption"]
    try:
        caption, captions = _caption(video, captions, passed_over)
    except UnreadableVideo as error:
        unusable = error.reason
    return Entry(
        video,
        names[video],
        caption,
        references=tuple(of["a reference"]),
        poses=poses[0] if poses else None,
        counted=tuple(names[file] for file in (video, *captions, *of["a reference"], *poses[:1])),
        unusable=unusable,
    )


def _caption(video: Path, files: Sequence[Path], passed_over: dict[Path, str]) -> tuple[str, list[Path]]:
    """The words for a video, and the files that say so.

    Of several files one that names the video's ending comes first, then the order of `CAPTION_ENDINGS`, then
    the one whose capital letters are the video's.

    Raises:
        UnreadableVideo: one of them cannot be read.
    """
    whole, stem = _composed(video.name), _composed(video.stem)

    def rank(file: Path) -> tuple[bool, int, bool, str]:
        of = _composed(_role(file)[1])
        is_whole, is_exact = of.casefold() == whole.casefold(), of in (whole, stem)
        return not is_whole, CAPTION_ENDINGS.index(file.suffix.lower()), not is_exact, file.name

    texts = {file: _text(video, file) for file in sorted(files, key=rank)}
    chosen = next((file for file, text in texts.items() if text), next(iter(texts), None))
    if chosen is None:
        return "", []
    for file, text in texts.items():
        if text != texts[chosen]:
            says = "says something else" if text else "is empty"
            passed_over[file] = f"it {says}, and {chosen.name} is the caption of {video.name}"
    return texts[chosen], [file for file, text in texts.items() if text == texts[chosen]]


def _text(video: Path, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        reason = f"its caption {file.name} is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except OSError as error:
        reason = f"its caption {file.name} cannot be read ({error.strerror})"
    raise UnreadableVideo(video, reason)
