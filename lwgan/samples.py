"""What one training step looks at: people, their sources and targets, composed for the generator.

A batch is a pure function of a seed and its number. So a run that was killed goes on with the batches it would have
seen, whoever loads them, and any number of processes share the work without a word.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from iper_toolkit.atomic import write_atomically
from iper_toolkit.body import Body, BodyMismatch, BodyParams
from iper_toolkit.camera import project
from iper_toolkit.images import read_image, resize, to_float
from lwgan.clothing import dressed, thickness_of
from lwgan.composition import (
    USUAL_SETTINGS,
    CompositionSettings,
    EachSource,
    background_inputs,
    compose_each,
    compose_targets,
    generator_inputs,
    head_and_body_boxes,
    join_sources,
)
from lwgan.generators.records import SIZE_MULTIPLE, GeneratorInputs
from lwgan.surface_tables import SurfaceTables

Pixels = NDArray[np.uint8]
# Sources: the best front frame first and the others from the front too, as the reference trains; or any good front
# frame first and the others from all sides, as a person is shown in use.
SourceRule = Literal["front", "all-sides"]
_FRONT_CHOICES = 4  # good front frames among which the first source is drawn
_WINDOW_STEP = 2 * SIZE_MULTIPLE


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


@dataclass(frozen=True)
class Batch:
    """B people with S sources and T targets each, ready for a step."""

    inputs: GeneratorInputs
    source: Tensor  # (B, S, 3, H, W) real pictures in [-1, 1]
    target: Tensor  # (B, T, 3, H, W)
    source_mask: Tensor  # (B, S, 1, H, W), 1 = background, soft
    target_mask: Tensor  # (B, T, 1, H, W)
    source_scene: Tensor  # (B, S, 3, H, W) behind the people, where no network draws it
    target_scene: Tensor  # (B, T, 3, H, W)
    real_background: Tensor  # (B, 3, H, W) what the last background entry should become
    head_boxes: Tensor  # (B * T, 4) int64 min_x, max_x, min_y, max_y
    body_boxes: Tensor  # (B * T, 4)

    def to(self, device: torch.device | str) -> "Batch":
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return Batch(**moved)

    @property
    def hole(self) -> Tensor:
        """(B, 1, H, W) 1 where the last background entry was known."""
        background = self.inputs.background
        if background is None:
            raise ValueError("This batch has no background inputs.")
        return background[:, -1, 3:4]


class Batches(Dataset[Batch]):
    """Batch number k, for any k.

    Args:
        clips: folders, each with all its clips; a clip is drawn as often as any other.
        rules: how.
        body, tables: of the clips' fits.
        settings: how inputs are composed.
        cache: folder for what is composed of each source; None: composed anew each time.
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
        rank: int = 0,
        world: int = 1,
        scenes: Sequence[Path] = (),
    ) -> None:
        self._folders, self.rules, self._body, self._tables = tuple(clips), rules, body, tables
        # The reference extends edges farther when it draws than when it trains; ours are shown the same.
        is_ours = tables.convention == "clothed"
        usual = USUAL_SETTINGS if is_ours else CompositionSettings(extension_kernel=9)
        self._settings = settings or usual
        self._cache = cache
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
            batch = _windowed(batch, rules.window, random)
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
        each = [self._each(one) for one in read]
        vertices = self._vertices(params, [one.thickness for one in each], num_sources)
        posed = self._body.pose(params)
        keypoints = project(self._body.keypoints19(posed), params.camera)[..., :2]
        keypoints = keypoints.unflatten(0, (len(read), -1))[:, num_sources:].flatten(0, 1)
        pictures = torch.stack([one.colours(_floats(one.pictures)) for one in read])
        masks = torch.stack(
            [1 - torch.from_numpy(one.masks[:, None]).float() / 255 for one in read]
        )
        scene = torch.stack([one.colours(_floats(one.scene[None]))[0] for one in read])
        joined = EachSource(
            shown=torch.cat([one.shown for one in each]),
            unwrapped=torch.cat([one.unwrapped for one in each]),
            texture_visibility=torch.cat([one.visibility for one in each]),
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
        num_targets = pictures.shape[1] - num_sources
        return Batch(
            inputs=generator_inputs(sources, targets, temporal=self.rules.temporal),
            source=pictures[:, :num_sources],
            target=pictures[:, num_sources:],
            source_mask=masks[:, :num_sources],
            target_mask=masks[:, num_sources:],
            source_scene=scene[:, None].expand(-1, num_sources, -1, -1, -1),
            target_scene=scene[:, None].expand(-1, num_targets, -1, -1, -1),
            real_background=real_background,
            head_boxes=heads,
            body_boxes=bodies,
        )

    def _vertices(
        self, params: BodyParams, thickness: Sequence[Tensor | None], num_sources: int
    ) -> Tensor:
        """(B, S + T, V, 3) projected; dressed, if the convention has it: sources each as it shows, targets as their mean."""
        worn = None
        if thickness[0] is not None:
            count = len(params) // len(thickness) - num_sources
            rows = []
            for own in thickness:
                assert own is not None  # all have it or none
                rows.append(torch.cat([own, own.mean(0, keepdim=True).expand(count, -1)]))
            worn = torch.cat(rows)
        return dressed(self._body, params, worn).unflatten(0, (len(thickness), -1))

    def _each(self, read: "_Read") -> "_Sources":
        """What is found out of each source, in the clip's changed colours."""
        parts = [self._one(read, position) for position in range(len(read.sources))]
        shown, unwrapped, seen = (
            torch.stack(part)[None] for part in zip(*(part[:3] for part in parts), strict=True)
        )
        worn = [part[3] for part in parts if part[3] is not None]
        return _Sources(
            read.colours(shown), read.colours(unwrapped), seen, torch.stack(worn) if worn else None
        )

    def _one(self, read: "_Read", position: int) -> "_Kept":
        """Picture, texture, visibility and thickness of one source, kept under its content."""
        picture, mask = read.pictures[position], read.masks[position]
        params = read.params[[position]]
        path = None
        if self._cache is not None:
            told = sha256(picture.tobytes() + mask.tobytes() + params.to_array().numpy().tobytes())
            told.update(f"{self._tables.id} {self._settings} {_KEPT_VERSION}".encode())
            name = told.hexdigest()
            path = self._cache / name[:2] / f"{name}.bin"
            if (kept := self._read_kept(path)) is not None:
                return kept
        worn = None
        if self._tables.convention == "clothed":
            # Rounded also when it is fresh, so that nothing depends on what was kept.
            worn = thickness_of(self._body, params, mask[None]).half().float()
        each = compose_each(
            _floats(picture[None])[None],
            1 - torch.from_numpy(mask[None, None, None]).float() / 255,
            dressed(self._body, params, worn)[None],
            self._tables,
            self._settings,
        )
        found: _Kept = (
            each.shown[0, 0].half().float(),
            each.unwrapped[0, 0].half().float(),
            each.texture_visibility[0, 0],
            None if worn is None else worn[0],
        )
        if path is not None:
            _keep(path, found)
        return found

    def _read_kept(self, path: Path) -> "_Kept | None":
        """What was kept of a source; None if nothing was, or the file is damaged."""
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError:
            return None
        size = self.rules.size
        picture, bits = 3 * size * size * 2, size * size // 8
        is_clothed = self._tables.convention == "clothed"
        vertices = 2 * self._body.num_vertices if is_clothed else 0
        if len(raw) != 2 * picture + bits + vertices:
            return None
        shown, unwrapped, seen, worn = np.split(raw, np.cumsum([picture, picture, bits]).tolist())
        return (
            _halves(shown).reshape(3, size, size),
            _halves(unwrapped).reshape(3, size, size),
            torch.from_numpy(np.unpackbits(seen).astype(np.float32)).reshape(1, size, size),
            _halves(worn) if is_clothed else None,
        )


# Picture (3, H, W), texture (3, H, W), visibility (1, H, W) and thickness (V,) of one source.
_Kept = tuple[Tensor, Tensor, Tensor, Tensor | None]
_KEPT_VERSION = 1


@dataclass(frozen=True)
class _Sources:
    """The sources of one clip, (1, S, ...)."""

    shown: Tensor
    unwrapped: Tensor
    visibility: Tensor
    thickness: Tensor | None  # (S, V)


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


def _windowed(batch: Batch, share: float, random: np.random.Generator) -> Batch:
    """The columns around each person alone, of sources and of targets: twice the person's share of pixels.

    Flows go on pointing where they did: into the sources' windows.
    """
    width = batch.target.shape[-1]
    wide = max(_WINDOW_STEP, round(width * share / _WINDOW_STEP) * _WINDOW_STEP)
    if wide >= width:
        return batch
    source, target = (
        _window_starts(mask, wide, random) for mask in (batch.source_mask, batch.target_mask)
    )
    flow = _cut_columns(
        batch.inputs.flow.movedim(-1, -3),
        target[:, :, None].expand(batch.inputs.flow.shape[:3]),
        wide,
    )
    flow = flow.movedim(-3, -1)
    x = (flow[..., 0] + 1) / 2 * width - source[:, None, :, None, None]
    moved = torch.stack([x / wide * 2 - 1, flow[..., 1]], dim=-1)
    nowhere = (flow == -2).all(-1, keepdim=True)
    inputs = replace(
        batch.inputs,
        background=None,
        source=_cut_columns(batch.inputs.source, source, wide),
        target=_cut_columns(batch.inputs.target, target, wide),
        flow=torch.where(nowhere, flow, moved),
    )

    def boxes(before: Tensor) -> Tensor:
        """Boxes in the window; what lies outside of it is cut off."""
        start = target.flatten()[:, None]
        columns = (before[:, :2] - start).clamp(0, wide)
        return torch.cat([columns, before[:, 2:]], dim=1)

    return Batch(
        inputs=inputs,
        source=_cut_columns(batch.source, source, wide),
        target=_cut_columns(batch.target, target, wide),
        source_mask=_cut_columns(batch.source_mask, source, wide),
        target_mask=_cut_columns(batch.target_mask, target, wide),
        source_scene=_cut_columns(batch.source_scene, source, wide),
        target_scene=_cut_columns(batch.target_scene, target, wide),
        real_background=batch.real_background,
        head_boxes=boxes(batch.head_boxes),
        body_boxes=boxes(batch.body_boxes),
    )


def _window_starts(masks: Tensor, wide: int, random: np.random.Generator) -> Tensor:
    """(B, N) int64: the first column of a window that holds as much of the person as it can."""
    width = masks.shape[-1]
    starts = torch.empty(masks.shape[:2], dtype=torch.int64)
    for index in np.ndindex(*starts.shape):
        columns = (masks[index][0] < 0.5).any(0).nonzero()[:, 0]
        low, high = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, width)
        slack = wide - (high - low)
        start = low - int(random.integers(slack + 1)) if slack >= 0 else low - slack // 2
        starts[index] = min(max(start, 0), width - wide)
    return starts


def _cut_columns(pictures: Tensor, starts: Tensor, wide: int) -> Tensor:
    """(..., C, H, W) with a start for each leading index -> (..., C, H, wide)."""
    flat = pictures.flatten(0, starts.dim() - 1)
    cut = [
        picture[..., start : start + wide]
        for picture, start in zip(flat, starts.flatten().tolist(), strict=True)
    ]
    return torch.stack(cut).unflatten(0, starts.shape)


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


def _halves(raw: Pixels) -> Tensor:
    return torch.from_numpy(raw.view(np.float16).astype(np.float32))


def _keep(path: Path, found: _Kept) -> None:
    shown, unwrapped, seen, worn = found
    halves = [one.half().numpy().tobytes() for one in (shown, unwrapped)]
    parts = [*halves, np.packbits(seen.numpy() > 0.5).tobytes()]
    if worn is not None:
        parts.append(worn.half().numpy().tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: part.write_bytes(b"".join(parts)))
