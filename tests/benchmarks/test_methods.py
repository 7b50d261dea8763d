"""Methods by name, and what the warp does with a person."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.methods import (
    BUILT_IN,
    Copy,
    Method,
    Motion,
    Person,
    PictureFolder,
    Setup,
    load_method,
)
from benchmarks.warp import Warp, measure_thickness, spread
from iper_toolkit.body import Body
from iper_toolkit.images import write_image
from iper_toolkit.raster.shading import vertex_normals_array

SIZE = 96


def person_of(clip: Any, frames: list[int], size: int = SIZE) -> Person:
    return Person(
        clip=clip.id,
        frames=tuple(frames),
        pictures=clip.frames(frames, size),
        masks=clip.masks(frames, size),
        params=clip.params(frames),
        background=clip.background(size),
    )


def motion_of(clip: Any, frames: list[int] | None = None) -> Motion:
    chosen = list(range(clip.num_frames)) if frames is None else frames
    params = clip.params(chosen)
    return Motion("self/x", "self", params, params, tuple(chosen), clip.num_frames)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_methods_are_methods(name: str) -> None:
    method = load_method(name)
    assert isinstance(method, Method)
    assert method.name == name


def test_methods_can_be_renamed(tmp_path: Path) -> None:
    assert load_method("theirs=copy").name == "theirs"
    assert load_method(f"folder:{tmp_path}").name == tmp_path.name
    assert load_method(f"ours=folder:{tmp_path}").name == "ours"
    assert isinstance(load_method("benchmarks.methods:Copy"), Copy)


def test_a_class_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine=1.py"
    path.write_text(
        "class Mine:\n"
        "    name, version, weights = 'mine', '1', ''\n"
        "    def setup(self, setup): pass\n"
        "    def personalize(self, person): pass\n"
        "    def draw(self, motion): return []\n"
        "class Other:\n"
        "    name = 'other'\n"
    )
    assert load_method(f"x={path}:Mine").name == "x"
    with pytest.raises(ValueError, match="lacks personalize, draw"):
        load_method(f"x={path}:Other")
    with pytest.raises(ValueError, match="has no 'Nobody'"):
        load_method(f"x={path}:Nobody")


@pytest.mark.parametrize("spec", ["wrap", "nowhere.py:Class", "folder:/nowhere", "a/b=copy"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)):
        load_method(spec)


def test_a_folder_takes_the_whole_case_or_the_thinned_one(tmp_path: Path, dataset: Any) -> None:
    clip = dataset.clip("003/1/2")
    folder = tmp_path / "self" / "x"
    for k in range(6):
        write_image(folder / f"{k:05d}.png", np.full((SIZE, SIZE, 3), k, np.uint8))
    (folder / "readme.png").write_bytes(b"not a number")
    method = PictureFolder(tmp_path, "theirs")
    drawn = list(method.draw(motion_of(clip, [1, 4])))
    assert [picture[0, 0, 0] for picture in drawn] == [1, 4]
    for k in (0, 2, 3, 5):
        (folder / f"{k:05d}.png").unlink()
    assert len(list(method.draw(motion_of(clip, [1, 4])))) == 2
    with pytest.raises(ValueError, match="holds 2 numbered pictures"):
        list(method.draw(motion_of(clip, [1, 3])))


def test_other_pictures_are_another_version(tmp_path: Path) -> None:
    path = tmp_path / "self" / "x" / "00000.png"
    write_image(path, np.zeros((SIZE, SIZE, 3), np.uint8))
    before = PictureFolder(tmp_path, "theirs").version
    assert PictureFolder(tmp_path, "theirs").version == before
    write_image(path, np.ones((SIZE, SIZE, 3), np.uint8))
    assert PictureFolder(tmp_path, "theirs").version != before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("version = 3", "Mine.version is 3, not text"),
        ("weights = None", "Mine.weights is None, not text"),
        ("name = 5", "Mine.name is 5, not text"),
        ("name = 'warp'", "'warp' is the name of a built-in method"),
        ("def __init__(self, size): pass", "cannot be made without arguments: TypeError"),
        ("def", "cannot be imported: SyntaxError"),
        ("raise SystemExit(2)", "cannot be imported: SystemExit: 2"),
    ],
)
def test_classes_that_do_not_fit(body: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"from benchmarks.methods import Copy\nclass Mine(Copy):\n    name = 'mine'\n    {body}\n"
    )
    with pytest.raises(ValueError, match=said):
        load_method(f"{path}:Mine")
    with pytest.raises(ValueError, match="name of a built-in method"):
        load_method("copy=warp")


def test_a_person_checks_itself(dataset: Any) -> None:
    clip = dataset.clip("001/1/1")
    with pytest.raises(ValueError, match="1 sources of size 96"):
        Person(
            "a",
            (2,),
            clip.frames([2], SIZE),
            clip.masks([2], 48),
            clip.params([2]),
            clip.background(SIZE),
        )


# -------------------------------------------------------------------------------------------- warp


def test_spreading_keeps_measurements_and_is_smooth_between() -> None:
    from scipy import sparse

    n = 21
    chain = sparse.diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1]).tocsr()
    total, weight = np.zeros(n, np.float32), np.zeros(n, np.float32)
    total[0], weight[0], total[-1], weight[-1] = 0.0, 1e4, 1e4, 1e4
    found = spread(total, weight, chain, 1.0)
    np.testing.assert_allclose(found, np.linspace(0, 1, n), atol=0.02)
    both = spread(np.stack([total, 2 * total], -1), weight, chain, 1.0)
    np.testing.assert_allclose(both, np.stack([found, 2 * found], -1), atol=1e-6)


def test_thickness_of_clothes_is_measured(dataset: Any, body: Body) -> None:
    """A mask that is the body blown up by three centimetres."""
    from iper_toolkit.camera import project
    from iper_toolkit.raster import rasterize

    params = dataset.clip("001/1/1").params([0])
    faces = body.faces.numpy().astype(np.int32)
    posed = body.pose(params).vertices[0].numpy()
    for thick in (0.0, 0.03):
        blown = posed + vertex_normals_array(posed, faces) * np.float32(thick)
        points = project(torch.from_numpy(blown), params.camera[0])
        mask = rasterize(points, body.faces, 256).covered.numpy().astype(np.uint8) * 255
        thickness, found = measure_thickness(posed, faces, params.camera[0].numpy(), mask)
        assert found.sum() > 200
        # Half a pixel of 256 is 4 mm; rays leave at the pixel grid.
        assert abs(np.median(thickness[found]) - thick) < 0.008


@pytest.mark.parametrize("sources", [[2], [2, 4]])
def test_warp_redraws_its_source_and_beats_copy(
    sources: list[int], dataset: Any, body: Body
) -> None:
    clip = dataset.clip("001/1/1")
    warp, copy = Warp(), Copy()
    errors = {}
    for method in (warp, copy):
        method.setup(Setup(SIZE, body))
        method.personalize(person_of(clip, sources))
        pictures: Iterator[Any] = iter(method.draw(motion_of(clip)))
        drawn = np.stack(list(pictures))
        assert drawn.shape == (clip.num_frames, SIZE, SIZE, 3)
        assert drawn.dtype == np.uint8
        frames = list(range(clip.num_frames))
        truth, masks = clip.frames(frames, SIZE), clip.masks(frames, SIZE) > 127
        difference = np.abs(drawn.astype(float) - truth)
        errors[method.name] = np.array(
            [d[m].mean() for d, m in zip(difference, masks, strict=True)]
        )
    unseen = [k for k in range(clip.num_frames) if k not in sources]
    # Its own source comes back but for the softened edge; everywhere else it follows the motion.
    assert errors["warp"][2] < 8
    assert errors["warp"][unseen].mean() < 0.6 * errors["copy"][unseen].mean()


def test_warp_draws_frames_alone_as_in_company(dataset: Any, body: Body) -> None:
    clip = dataset.clip("002/1/2")
    warp = Warp()
    warp.setup(Setup(SIZE, body))
    warp.personalize(person_of(clip, [2]))
    together = list(warp.draw(motion_of(clip)))
    (alone,) = warp.draw(motion_of(clip, [5]))
    assert np.abs(alone.astype(int) - together[5]).max() <= 1  # batched products round differently


def test_warp_draws_the_plate_where_nobody_is(dataset: Any, body: Body) -> None:
    clip = dataset.clip("002/1/2")
    warp = Warp()
    warp.setup(Setup(SIZE, body))
    warp.personalize(person_of(clip, [2]))
    motion = motion_of(clip, [1])
    motion.params.camera[:, 1] = 10  # far outside the picture
    (picture,) = warp.draw(motion)
    np.testing.assert_array_equal(picture, clip.background(SIZE))
