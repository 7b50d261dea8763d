"""People and motions, read from what a user names: prepared clips, or raw files with keypoints.

A name is ``001/1/1``, a clip of a root that `iper prepare` has been through, or ``me.png``, ``dance.mp4``, ``frames/``,
raw files (see `lwgan.raw_files`). Frames may follow: ``001/1/1@0,30`` or ``dance.mp4@10-80`` (both ends included, from 0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iper_toolkit.body import BodyMismatch, BodyParams, load_body
from iper_toolkit.clip import Clip, Dataset, cut_and_resize
from iper_toolkit.crop import SquareCrop
from iper_toolkit.folders import expanded
from iper_toolkit.images import read_image
from iper_toolkit.manifest import BadManifest, NotPrepared, file_sha256
from iper_toolkit.naming import normalised
from iper_toolkit.source_views import MOST_FRAMES, choose_sources
from lwgan.generators.records import SIZE_MULTIPLE
from lwgan.person import Motion, Person
from lwgan.raw_files import find_raw_files, prepared_clip

NUM_SOURCES = 2
"""Frames that a clip gives as sources if none are named: one from the front, one from the back."""

DEFAULT_ROOT = Path("data")

# Share of the body's front faces that a source may show and still show the back: who is turned away by more than about
# 115 degrees shows less. Facing the camera shows about a half; the others are hidden, or smaller than a pixel.
_FRONT_FROM_BEHIND = 1 / 16
# Pixels that must be left of a person, without the outermost ones, to take colours from.
_LEAST_PIXELS = 8

_WITH_FRAMES = re.compile(r"(?P<name>.+)@(?P<frames>[\d,\-\s]*)")
_RANGE = re.compile(r"(?P<first>\d+)(?:(?P<dash>-)(?P<last>\d*))?")

Tell = Callable[[str], object]


class UnfitFrames(ValueError):
    """Frames were named that show nobody, or whose body could not be fitted."""


@dataclass(frozen=True)
class NamedFrames:
    """Frames of one prepared clip, as a user named them."""

    name: str
    """As it was typed, without the frames."""
    title: str
    """The clip's id, or the file's name without its folder, which may say more than others should read."""
    clip: Clip
    frames: tuple[int, ...] | None
    """None: no frames were named."""
    sha256: str
    """Of the picture or video; of a folder of frames, the digest over names and sha256."""

    def chosen(self) -> tuple[int, ...]:
        """The named frames, else all."""
        return tuple(range(self.clip.num_frames)) if self.frames is None else self.frames

    def pictures(self, frames: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
        """(size, size, 3) uint8 RGB of positions in `chosen`, one by one: memory stays small."""
        numbers = self.chosen()
        for position in frames:
            yield self.clip.frames([numbers[position]], size)[0]


def open_frames(
    text: str | Path,
    *,
    root: Path | None = None,
    body: str = "open",
    cache: Path | None = None,
    tell: Tell = lambda text: None,
) -> NamedFrames:
    """Find what a text names; raw files are prepared if they never were.

    Args:
        text: a name, with or without frames. A clip of `root` goes before a file of the same name.
        root: a prepared dataset; default: data/.
        body: what `load_body` takes; the fits must be of this body.
        cache, tell: see `lwgan.raw_files.prepared_clip`.

    Raises:
        FileNotFoundError, NotPrepared, KeyError, BodyMismatch, ValueError: each says what to do.
    """
    name, wanted = split_frames(str(text))
    clip = _clip_of(root, name)
    if clip is not None:
        title, sha256 = clip.id, str(clip.row["source_sha256"])
    elif Path(name).exists():
        title = Path(name).resolve().name
        files = find_raw_files(Path(name))
        clip = prepared_clip(files, body=body, cache=cache, tell=tell)
        is_picture = files.kind == "picture"
        sha256 = file_sha256(files.source) if is_picture else str(clip.row["source_sha256"])
    else:
        raise _nothing_there(root, name)
    if clip.body_id != (wanted_id := load_body(body).id):
        raise BodyMismatch(
            f"{name} was fitted with body {clip.body_id!r}, and {wanted_id!r} is to be drawn. Name the "
            "file of the fit's body with --body, or prepare the clip again with the other one."
        )
    frames = None if wanted is None else _numbers(wanted, name, clip.num_frames)
    return NamedFrames(name, title, clip, frames, sha256)


def read_person(
    sources: Sequence[str | Path],
    *,
    size: int,
    num_sources: int = NUM_SOURCES,
    root: Path | None = None,
    body: str = "open",
    cache: Path | None = None,
    tell: Tell = lambda text: None,
) -> Person:
    """One person from one or several sources; the first is the primary.

    Args:
        sources: names of pictures, clips or videos that show this person. A clip without named frames gives
            `num_sources` frames, half from the front and half from behind (`source_views.choose_sources`).
        size: pixels of a side of everything that is read.
        root, body, cache, tell: see `open_frames`.
    """
    check_size(size)
    if not sources:
        raise ValueError("A person takes at least one source, a picture or a clip; got none.")
    named = [open_frames(s, root=root, body=body, cache=cache, tell=tell) for s in sources]
    chosen = [_source_frames(one, num_sources) for one in named]
    pairs = list(zip(named, chosen, strict=True))
    _refuse_repeated(pairs)
    _warn_of_several(named, tell)
    _warn_of_no_back(pairs, body, tell)
    masks = np.concatenate([one.clip.appearance_masks(frames, size) for one, frames in pairs])
    _refuse_small(masks, pairs, size)
    return Person(
        name="+".join(dict.fromkeys(one.title for one in named)),
        pictures=np.concatenate([one.clip.frames(frames, size) for one, frames in pairs]),
        masks=masks,
        params=_joined([one.clip.params(frames) for one, frames in pairs]),
        plate=named[0].clip.background(size),
        origin=tuple(
            f"{one.title} frame {frame} (sha256 {one.sha256})"
            for one, frames in pairs
            for frame in frames
        ),
    )


def read_motion(
    text: str | Path,
    *,
    max_frames: int = 0,
    root: Path | None = None,
    body: str = "open",
    cache: Path | None = None,
    tell: Tell = lambda text: None,
) -> Motion:
    """The motion of a clip or video: its named frames, else all.

    Args:
        text: a name, with or without frames.
        max_frames: no more than so many, from the first; 0 means all.
        root, body, cache, tell: see `open_frames`.
    """
    return motion_of(open_frames(text, root=root, body=body, cache=cache, tell=tell), max_frames)


def motion_of(named: NamedFrames, max_frames: int = 0) -> Motion:
    """`read_motion` of frames that are open already. It knows the whole clip, of which these are imitated."""
    import torch

    frames = named.chosen()[: max_frames or None]
    if unfit := [frame for frame in frames if not named.clip.valid[frame]]:
        fit = [frame for frame in frames if named.clip.valid[frame]]
        raise UnfitFrames(
            f"Frames {ranges(unfit)} of {named.name} show nobody, or have no valid fit, so they cannot be "
            + (
                f"imitated. Leave them out: {named.name}@{ranges(fit)}"
                if fit
                else "imitated; choose other frames, such as "
                f"{named.name}@{ranges(np.flatnonzero(named.clip.valid).tolist())}"
            )
        )
    fits = named.clip.params().to_array().clone()
    fits[~torch.from_numpy(named.clip.valid)] = (
        torch.nan
    )  # whatever was fitted where nobody is seen
    return Motion(
        params=BodyParams.from_array(named.clip.body_id, fits),
        frames=frames,
        fps=named.clip.fps,
        name=named.title,
        origin=(f"{named.title} frames {ranges(frames)} (sha256 {named.sha256})",),
    )


def read_scene(picture: Path, source: NamedFrames, size: int) -> NDArray[np.uint8]:
    """A picture to lay behind a person, (size, size, 3) uint8 RGB.

    One of the same size as the source's frames is of the same scene, and is cut as they are; of any other one, the middle
    square is taken.
    """
    pixels = read_image(picture)
    height, width = pixels.shape[:2]
    if (height, width) == (source.clip.row["height"], source.clip.row["width"]):
        return cut_and_resize(pixels, source.clip.crop, size)
    side = min(height, width)
    return cut_and_resize(pixels, SquareCrop((width - side) // 2, (height - side) // 2, side), size)


def check_size(size: int) -> None:
    """Sizes the networks take."""
    least = 2 * SIZE_MULTIPLE
    if size < least or size % SIZE_MULTIPLE:
        below = max(least, size // SIZE_MULTIPLE * SIZE_MULTIPLE)
        raise ValueError(
            f"size is {size}; the networks halve pictures three times, so it must be a multiple of "
            f"{SIZE_MULTIPLE}, at least {least}: take {below} or {below + SIZE_MULTIPLE}."
        )


def split_frames(text: str) -> tuple[str, str | None]:
    """``dance.mp4@10-80`` -> (``dance.mp4``, ``10-80``); a file whose own name looks like this stays whole."""
    text = expanded(text)
    match = _WITH_FRAMES.fullmatch(text)
    if match is None or Path(text).exists():
        return text, None
    return match["name"], match["frames"]


def split_parts(text: str) -> tuple[list[str], tuple[str, ...]]:
    """``a.png+b.mp4@0,30=upper,feet`` -> ([``a.png``, ``b.mp4@0,30``], (``upper``, ``feet``)).

    Files whose own names hold = or + stay whole.
    """

    def is_file(name: str) -> bool:
        return Path(split_frames(name)[0]).exists()

    sources, _, words = (
        text.rpartition("=") if "=" in text and not is_file(text) else (text, "", "")
    )
    names = [sources] if is_file(sources) else sources.split("+")
    return names, tuple(filter(None, (word.strip() for word in words.split(","))))


def ranges(frames: Sequence[int]) -> str:
    """[0, 1, 2, 7] -> ``0-2,7``, as it may be typed behind an @."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], frame)
        else:
            runs.append((frame, frame))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _numbers(text: str, name: str, num_frames: int) -> tuple[int, ...]:
    """``0,30,40-`` -> frame numbers of a clip of that length, in the order of the text."""
    numbers: list[int] = []
    if not text.strip():
        raise ValueError(
            f"No frame stands behind the @ of {name}@; write {name}@0,30 or {name}@10-80."
        )
    for part in text.replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(
                f"{name}@{text}: {part!r} is no frame. Write frames as 0,30 or as 10-80; 10- goes on to the end."
            )
        first = int(match["first"])
        last = first if not match["dash"] else int(match["last"] or num_frames - 1)
        if last >= num_frames or first >= num_frames:
            raise ValueError(
                f"{name}@{text}: {name} has frames 0 to {num_frames - 1}; got {max(first, last)}."
            )
        if first > last:
            raise ValueError(f"{name}@{text}: {part} runs backwards; write {last}-{first}.")
        numbers += range(first, last + 1)
    return tuple(numbers)


def _clip_of(root: Path | None, name: str) -> Clip | None:
    """The clip of this name in a prepared root, if there is one."""
    is_file = Path(name).exists()
    try:
        dataset = Dataset.open(root or DEFAULT_ROOT)
    except (NotPrepared, BadManifest) as error:
        if is_file and root is None:  # a folder that nobody named must not stand in the way
            return None
        if isinstance(error, NotPrepared) and (is_file or root is None):
            return None
        raise
    return dataset.clip(name) if normalised(name) in dataset.rows else None


def _nothing_there(root: Path | None, name: str) -> Exception:
    folder = root or DEFAULT_ROOT
    try:
        clips = Dataset.open(folder).clip_ids
    except NotPrepared:
        return FileNotFoundError(
            f"There is no file {name}, and {folder} is no prepared dataset that could have a clip of this "
            "name. Name a picture or a video, or a dataset: --root FOLDER, after: iper prepare --root FOLDER"
        )
    some = ", ".join(clips[:5]) + (" ..." if len(clips) > 5 else "")
    hint = " Parts (=upper) are for --person of lwgan transfer." if "=" in name else ""
    return FileNotFoundError(
        f"There is neither a file {name} nor a clip of this name in {folder}, which has {some}. Frames are "
        f"written NAME@0,30 or NAME@10-80.{hint}"
    )


def _source_frames(named: NamedFrames, num_sources: int) -> tuple[int, ...]:
    """Frames of one source: those that were named, the one of a picture, else by rank."""
    clip = named.clip
    if named.frames is not None or clip.num_frames == 1:
        frames = named.chosen()
        if unfit := [frame for frame in frames if not clip.valid[frame]]:
            best = ",".join(map(str, clip.front_frames[:3]))
            raise UnfitFrames(
                f"Frame {ranges(unfit)} of {named.name} shows nobody, or has no valid fit, so nobody can be "
                f"learned from it. Choose another, such as {named.name}@{best}"
            )
        return frames
    num_valid = int(clip.valid.sum())
    if num_sources > min(num_valid, MOST_FRAMES):
        raise ValueError(
            f"{num_sources} sources are wanted of {named.name}, which has {min(num_valid, MOST_FRAMES)} frames to "
            f"choose from. Pass --num-sources {min(num_valid, MOST_FRAMES)}, name frames ({named.name}@0,1), or add "
            "another --source."
        )
    return tuple(choose_sources(clip, num_sources))


def _refuse_repeated(pairs: Sequence[tuple[NamedFrames, tuple[int, ...]]]) -> None:
    """A source that counts twice takes memory and pulls attention to itself."""
    seen: set[tuple[str, int]] = set()
    for one, frames in pairs:
        for frame in frames:
            if (one.sha256, frame) in seen:
                raise ValueError(
                    f"Frame {frame} of {one.name} is named twice as a source; name each once."
                )
            seen.add((one.sha256, frame))


def _refuse_small(
    masks: NDArray[np.uint8], pairs: Sequence[tuple[NamedFrames, tuple[int, ...]]], size: int
) -> None:
    names = [f"frame {frame} of {one.name}" for one, frames in pairs for frame in frames]
    for name, mask in zip(names, masks, strict=True):
        person = mask > 127
        inside = person[1:-1, 1:-1] & person[:-2, 1:-1] & person[2:, 1:-1]
        inside &= person[1:-1, :-2] & person[1:-1, 2:]
        if inside.sum() < _LEAST_PIXELS:
            raise ValueError(
                f"At size {size} the person in {name} has {int(person.sum())} pixels, too few to take colours "
                "from. Take a larger --size, or a closer picture."
            )


def _warn_of_several(named: Sequence[NamedFrames], tell: Tell) -> None:
    """Raw files do not say who they show; clips of a dataset do."""
    shown = {
        (one.clip.subject, one.clip.outfit): one.name for one in named if one.title == one.clip.id
    }
    if len(shown) > 1:
        tell(
            f"WARNING: {' and '.join(shown.values())} show different people or outfits, and are merged into one "
            "person. To dress one in the clothes of another: lwgan transfer"
        )


def _warn_of_no_back(
    pairs: Sequence[tuple[NamedFrames, tuple[int, ...]]], body: str, tell: Tell
) -> None:
    surface = load_body(body).surface
    if surface is None:  # then nothing can be drawn either, which is said elsewhere
        return
    num_front = len(set(surface.front_body.tolist()) | set(surface.front_face.tolist()))
    scores = {
        f"frame {frame} of {one.name}": int(one.clip.front_scores[frame]) / num_front
        for one, frames in pairs
        for frame in frames
    }
    least = min(scores, key=scores.__getitem__)
    if scores[least] > _FRONT_FROM_BEHIND:
        tell(
            f"No source shows the person from behind: even {least} shows {scores[least]:.0%} of the body's front, and "
            f"from behind it is less than {_FRONT_FROM_BEHIND:.0%}. Where the back is drawn, it is guessed."
        )


def _joined(parts: Sequence[BodyParams]) -> BodyParams:
    import torch

    return BodyParams.from_array(
        parts[0].body_id, torch.cat([params.to_array() for params in parts])
    )
