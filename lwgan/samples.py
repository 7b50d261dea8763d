"""What one training step looks at: people, their sources and targets, composed for the generator.

A batch is a pure function of a seed and its number. So a run that was killed goes on with the batches it would have
seen, whoever loads them, and any number of processes share the work without a word.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import project
from iper_toolkit.images import read_image, resize, to_float
from lwgan.batch import Batch
from lwgan.clothing import dressed
from lwgan.composed_sources import ComposedSource, SourceComposer
from lwgan.composition import (
    USUAL_SETTINGS,
    CompositionSettings,
    EachSource,
    background_inputs,
    compose_targets,
    generator_inputs,
    head_and_body_boxes,
    join_sources,
)
from lwgan.generators.records import SIZE_MULTIPLE
from lwgan.surface_tables import SurfaceTables
from lwgan.windows import windowed

Pixels = NDArray[np.uint8]
# Sources: the best front frame first and the others from the front too, as the reference trains; or any good front
# frame first and the others from all sides, as a person is shown in use.
SourceRule = Literal["front", "all-sides"]
_FRONT_CHOICES = 4  # good front frames among which the first source is drawn
_EDGE = 2  # pixels around a person's mask that may still show a little of the person


class ClipData(Protocol):
    """What is read of a clip: `lwgan.packs.PackedClip` and `iper_toolkit.clip.Clip` both have it."""

    @property
    def id(self) -> str: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def body_id(self) -> str: ...
    @property
    def valid(self) -> NDArray[np.bool_]: ...
    @property
    def front_frames(self) -> tuple[int, ...]: ...
    @property
    def back_frames(self) -> tuple[int, ...]: ...
    def frames(self, indices: Sequence[int], size: int) -> Pixels: ...
    def masks(self, indices: Sequence[int], size: int) -> Pixels: ...
    def background(self, size: int) -> Pixels: ...
    def params(self, indices: Sequence[int] | None = None) -> BodyParams: ...


@runtime_checkable
class ClipFolder(Hashable, Protocol):
    """Clips by name: `lwgan.packs.Packs`, or a prepared dataset."""

    @property
    def clip_ids(self) -> tuple[str, ...]: ...
    def clip(self, clip_id: str) -> Any: ...


@dataclass(frozen=True)
class SampleRules:
    """How batches are drawn.

    Raises:
        ValueError: numbers that no batch can have.
    """

    size: int = 256  # pixels of a side
    batch: int = 4  # people
    num_sources: tuple[int, ...] = (1, 2)  # one of these a batch
    num_targets: int = 1
    sources: SourceRule = "all-sides"
    colours: bool = True  # channels change places and get brighter or darker, alike in a whole clip
    window: float = 1.0  # most batches see this share of the width, around the person
    whole: float = 0.3  # share of batches that see all of the width even so
    hide_sources: bool = True  # targets are other frames than the sources, where a clip has enough
    extra_background: bool = (
        False  # a further scene for the background network, as the reference has it
    )
    temporal: bool = False  # flows from target to target
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"batch": self.batch, "num_targets": self.num_targets}
        counts |= {"num_sources": min(self.num_sources, default=0)}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it takes at least 1.")
        if self.size % SIZE_MULTIPLE or self.size < 2 * SIZE_MULTIPLE:
            raise ValueError(f"size is {self.size}; it must be a multiple of {SIZE_MULTIPLE}.")
        if not 0 < self.window <= 1 or not 0 <= self.whole <= 1:
            raise ValueError(f"window {self.window}, whole {self.whole}: shares lie in 0 .. 1.")
        if self.window < 1 and self.extra_background:
            raise ValueError("A background network sees whole pictures: leave window at 1.")
        object.__setattr__(self, "num_sources", tuple(self.num_sources))  # JSON knows lists only


class Batches(Dataset[Batch]):
    """Batch number k, for any k.

    Args:
        clips: folders, each with all its clips; a clip is drawn as often as any other.
        rules: how.
        body, tables: of the clips' fits.
        settings: how inputs are composed.
        cache: folder for what is composed of each source; None: composed anew each time.
        remember: keep what is composed in memory instead, where there are few pictures.
        rank, world: which of several processes this is, and of how many; each has its own batches.
        scenes: further backgrounds, pictures in a folder; without them other clips' scenes are taken.

    Raises:
        ValueError: there is no clip that could be trained on.
        BodyMismatch: clips were fitted with another body (when one is read).
    """

    def __init__(
        self,
        clips: Sequence[ClipFolder],
        rules: SampleRules,
        body: Body,
        tables: SurfaceTables,
        *,
        settings: CompositionSettings | None = None,
        cache: Path | None = None,
        remember: bool = False,
        rank: int = 0,
        world: int = 1,
        scenes: Sequence[Path] = (),
    ) -> None:
        self._folders, self.rules, self._body, self._tables = tuple(clips), rules, body, tables
        # The reference extends edges farther when it draws than when it trains; ours are shown the same.
        is_ours = tables.convention == "clothed"
        usual = USUAL_SETTINGS if is_ours else CompositionSettings(extension_kernel=9)
        self._settings = settings or usual
        self._composer = SourceComposer(
            body, tables, self._settings, cache, {} if remember else None
        )
        self._rank, self._world = rank, world
        self._scenes = tuple(scenes)
        self._index = [(k, name) for k, one in enumerate(self._folders) for name in one.clip_ids]
        if not self._index:
            raise ValueError(
                "There is not one clip to train on: the datasets, or their splits, are empty."
            )

    @property
    def num_clips(self) -> int:
        return len(self._index)

    def __len__(self) -> int:
        return 1 << 40  # batches never end; a run says how many it takes

    def __getitem__(self, number: int) -> Batch:
        rules = self.rules
        whole = np.random.default_rng((rules.seed, 1, number))  # what all processes agree upon
        num_sources = int(whole.choice(rules.num_sources))
        random = np.random.default_rng((rules.seed, 2, number, self._rank))
        first = (number * self._world + self._rank) * rules.batch
        read = [
            self._read(self._clip_at(first + item), num_sources, random)
            for item in range(rules.batch)
        ]
        batch = self._compose(read, random)
        if rules.window < 1 and whole.random() >= rules.whole:
            batch = windowed(batch, rules.window, random)
        return batch

    def _clip_at(self, position: int) -> ClipData:
        epoch, place = divmod(position, len(self._index))
        folder, name = self._index[_shuffled(self.rules.seed, epoch, len(self._index))[place]]
        return _opened(self._folders[folder], name)

    def _read(self, clip: ClipData, num_sources: int, random: np.random.Generator) -> "_Read":
        rules = self.rules
        if clip.body_id != self._body.id:
            raise BodyMismatch(
                f"Clip {clip.id} was fitted with body {clip.body_id!r}, and {self._body.id!r} is trained on. Name that "
                "body with --body."
            )
        sources = choose_sources(clip, num_sources, rules.sources, random)
        targets = choose_targets(
            clip, rules.num_targets, sources if rules.hide_sources else (), random
        )
        chosen = [*sources, *targets]
        size = rules.size
        scene = clip.background(size)
        extra = self._extra_scene(random) if rules.extra_background else scene
        return _Read(
            clip,
            tuple(sources),
            clip.frames(chosen, size),
            clip.masks(chosen, size),
            clip.params(chosen),
            scene,
            extra,
            _Colours.drawn(random) if rules.colours else _Colours(),
        )

    def _extra_scene(self, random: np.random.Generator) -> Pixels:
        """A picture of a place: a random square of it, mirrored or not (as Places is shown in the reference)."""
        if self._scenes:
            picture = read_image(self._scenes[int(random.integers(len(self._scenes)))])
        else:
            folder, name = self._index[int(random.integers(len(self._index)))]
            picture = _opened(self._folders[folder], name).background(self.rules.size)
        height, width = picture.shape[:2]
        side = int(min(height, width) * np.sqrt(random.uniform(0.75, 1.0)))
        top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
        cut = resize(picture[top : top + side, left : left + side], (self.rules.size,) * 2)
        return np.ascontiguousarray(cut[:, ::-1]) if random.random() < 0.5 else cut

    def _compose(self, read: Sequence["_Read"], random: np.random.Generator) -> Batch:
        num_sources = len(read[0].sources)
        size = self.rules.size
        params = BodyParams.from_array(
            self._body.id, torch.cat([one.params.to_array() for one in read])
        )
        each = [
            [
                self._composer(one.pictures[k], one.masks[k], one.params[[k]])
                for k in range(num_sources)
            ]
            for one in read
        ]
        vertices = self._vertices(params, each)
        posed = self._body.pose(params)
        keypoints = project(self._body.keypoints19(posed), params.camera)[..., :2]
        keypoints = keypoints.unflatten(0, (len(read), -1))[:, num_sources:].flatten(0, 1)
        pictures = torch.stack([one.colours(_floats(one.pictures)) for one in read])
        masks = torch.stack(
            [1 - torch.from_numpy(one.masks[:, None]).float() / 255 for one in read]
        )
        scene = torch.stack([one.colours(_floats(one.scene[None]))[0] for one in read])
        joined = EachSource(
            shown=_of_each(each, "shown", read),
            unwrapped=_of_each(each, "unwrapped", read),
            texture_visibility=_of_each(each, "visibility"),
        )
        primary = int(random.integers(num_sources)) if self.rules.extra_background else 0
        background = background_inputs(
            pictures[:, [primary]], masks[:, [primary]], self._tables.convention, self._settings
        )
        real_background = scene
        if self.rules.extra_background:
            real_background = torch.stack([_floats(one.extra[None])[0] for one in read])
            hole = (masks[:, :1] == 1).float()
            extra = torch.cat([real_background[:, None] * hole, hole], dim=2)
            background = torch.cat([background, extra], dim=1)
        sources = join_sources(joined, background, vertices[:, :num_sources], self._tables)
        targets = compose_targets(sources, vertices[:, num_sources:], self._tables)
        heads, bodies = head_and_body_boxes(keypoints, size)
        behind = behind_people(pictures, masks, scene)
        return Batch(
            inputs=generator_inputs(sources, targets, temporal=self.rules.temporal),
            source=pictures[:, :num_sources],
            target=pictures[:, num_sources:],
            source_mask=masks[:, :num_sources],
            target_mask=masks[:, num_sources:],
            source_scene=behind[:, :num_sources],
            target_scene=behind[:, num_sources:],
            real_background=real_background,
            head_boxes=heads,
            body_boxes=bodies,
        )

    def _vertices(self, params: BodyParams, each: Sequence[Sequence[ComposedSource]]) -> Tensor:
        """(B, S + T, V, 3) projected; dressed, if the convention has it: sources each as it shows, targets as their mean."""
        worn = None
        if each[0][0].thickness is not None:
            num_targets = len(params) // len(each) - len(each[0])
            own = _of_each(each, "thickness")  # (B, S, V)
            targets = own.mean(1, keepdim=True).expand(-1, num_targets, -1)
            worn = torch.cat([own, targets], dim=1).flatten(0, 1)
        return dressed(self._body, params, worn).unflatten(0, (len(each), -1))


@dataclass(frozen=True)
class _Colours:
    """Channels in another order, brighter or darker. Exact zeros, which stand for "nothing", stay."""

    order: tuple[int, int, int] = (0, 1, 2)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def drawn(cls, random: np.random.Generator) -> "_Colours":
        order = random.permutation(3) if random.random() < 0.5 else np.arange(3)
        gain = random.uniform(0.75, 1.0) * random.uniform(0.9, 1.0, 3)
        return cls(tuple(order.tolist()), tuple(gain.tolist()))

    def __call__(self, pictures: Tensor) -> Tensor:
        """(..., 3, H, W) in [-1, 1] -> the same."""
        if self == _Colours():
            return pictures
        gain = torch.tensor(self.gain, dtype=pictures.dtype)[:, None, None]
        chosen = pictures[..., list(self.order), :, :]
        nothing = (chosen == 0).all(-3, keepdim=True)
        return torch.where(nothing, chosen, (chosen + 1) * gain - 1)


@dataclass(frozen=True)
class _Read:
    """One clip's share of a batch, as it was read; the sources come first."""

    clip: ClipData
    sources: tuple[int, ...]
    pictures: Pixels
    masks: Pixels
    params: BodyParams
    scene: Pixels
    extra: Pixels
    colours: _Colours


def behind_people(pictures: Tensor, masks: Tensor, scene: Tensor) -> Tensor:
    """What is behind the person of each picture: the picture itself, and the scene where the person hides it.

    A plate is never quite a picture's own background (light, noise, a shadow, a moved copy), and masks must not learn to
    draw the difference.

    Args:
        pictures: (B, N, 3, H, W).
        masks: (B, N, 1, H, W), 1 = background, soft.
        scene: (B, 3, H, W).

    Returns:
        (B, N, 3, H, W).
    """
    nearby = F.max_pool2d((masks < 1).float().flatten(0, 1), 2 * _EDGE + 1, stride=1, padding=_EDGE)
    return torch.where(nearby.unflatten(0, masks.shape[:2]) > 0, scene[:, None], pictures)


def _of_each(
    each: Sequence[Sequence[ComposedSource]], name: str, read: Sequence[_Read] = ()
) -> Tensor:
    """(B, S, ...) one thing of every source; in the changed colours of each clip, if what was read is given."""
    found = torch.stack([torch.stack([getattr(one, name) for one in sources]) for sources in each])
    if not read:
        return found
    return torch.stack([one.colours(part) for one, part in zip(read, found, strict=True)])


def choose_sources(
    clip: ClipData, count: int, rule: SourceRule, random: np.random.Generator
) -> list[int]:
    """Frames to learn a person from; the first is the primary.

    Raises:
        ValueError: the clip has no frame with a valid fit that shows the front.
    """
    front = [frame for frame in clip.front_frames if clip.valid[frame]]
    if not front:
        raise ValueError(
            f"Clip {clip.id} has no frame that shows the person's front with a valid fit."
        )
    if rule == "front":
        others = random.choice(front, count, replace=count >= len(front)).tolist()
        return [front[0], *others[1:]]
    first = front[int(random.integers(min(_FRONT_CHOICES, len(front))))]
    back = [frame for frame in clip.back_frames if clip.valid[frame] and frame != first]
    chosen = [first]
    rest = [frame for frame in np.flatnonzero(clip.valid).tolist() if frame != first]
    while len(chosen) < count:
        # The second source is most often the back: it is what users are told to give.
        pool = back if len(chosen) == 1 and back and random.random() < 0.7 else rest
        pool = [frame for frame in pool if frame not in chosen] or [first]
        chosen.append(int(pool[int(random.integers(len(pool)))]))
    return chosen


def choose_targets(
    clip: ClipData, count: int, hidden: Sequence[int], random: np.random.Generator
) -> list[int]:
    """`count` frames to draw, rising; not `hidden` ones, if others are enough."""
    valid = np.flatnonzero(clip.valid)
    other = np.setdiff1d(valid, hidden)
    pool = other if len(other) >= count else valid
    chosen = random.choice(pool, count, replace=len(pool) < count)
    return sorted(int(frame) for frame in chosen)


def _floats(pictures: Pixels) -> Tensor:
    return torch.from_numpy(to_float(pictures))


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, 3, epoch)).permutation(count)


@lru_cache(maxsize=64)
def _opened(folder: Hashable, name: str) -> ClipData:
    assert isinstance(folder, ClipFolder)
    clip: ClipData = folder.clip(name)
    return clip
