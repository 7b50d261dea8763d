"""The dressed body: as thick as masks show it, in other poses too; and flows that go on beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from iper_toolkit.body import Body, BodyParams, load_body
from iper_toolkit.camera import project
from iper_toolkit.raster import rasterize
from lwgan.checkpoints import random_checkpoint
from lwgan.clothing import dressed, thickness_of, worn_by_owners
from lwgan.correspondence import flow_beyond, nearest_covered
from lwgan.generators import GeneratorConfig
from lwgan.people import motion_of, open_frames, read_person
from lwgan.person import Dressed
from lwgan.surface_tables import surface_tables
from lwgan.synthesis import set_scene, synthesize
from lwgan.tasks import imitate, transfer

SIZE = 160


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body("open")


@pytest.fixture(scope="module")
def standing(prepared_root: Path) -> BodyParams:
    return read_person(["001/1/1@0"], size=SIZE, root=prepared_root).params


def silhouette(body: Body, params: BodyParams, thickness: torch.Tensor | None) -> NDArray[np.bool_]:
    return rasterize(dressed(body, params, thickness), body.faces, SIZE).covered.numpy()


def test_thickness_is_found_again_in_a_mask(body: Body, standing: BodyParams) -> None:
    """People who wear 3 cm everywhere cast a mask that says so."""
    worn = torch.full((body.num_vertices,), 0.03)
    mask = silhouette(body, standing, worn).astype(np.uint8) * 255
    found = thickness_of(body, standing, mask)
    assert found.shape == (1, body.num_vertices)
    assert float(found.median()) == pytest.approx(0.03, abs=0.008)
    inflated = silhouette(body, standing, found[0])
    naked = silhouette(body, standing, None)
    apart = [(one != (mask > 0)).sum() for one in (inflated, naked)]
    assert apart[0] < apart[1] / 3


def test_who_wears_nothing_stays_as_they_are(body: Body, standing: BodyParams) -> None:
    mask = silhouette(body, standing, None).astype(np.uint8) * 255
    found = thickness_of(body, standing, mask)
    assert float(found.abs().mean()) < 0.006
    exact = standing.to(None, torch.float32)
    plain = project(body.pose(exact).vertices, exact.camera).float()
    torch.testing.assert_close(dressed(body, standing, None), plain)


def test_each_wears_what_is_theirs() -> None:
    faces = torch.tensor([[0, 1, 2], [2, 3, 4]])
    owned = torch.tensor([[True, False], [False, True]])
    worn = worn_by_owners([torch.zeros(6), torch.ones(6)], owned, faces)
    assert worn.tolist() == [0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("band", [1, 3, 7, 16])
def test_the_nearest_covered_pixel_is_as_near_as_any(band: int) -> None:
    """Jump flooding errs now and then, by less than a pixel, where scattered pixels compete, as here."""
    covered = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(band)) > 0.995
    covered[0, 0] = False  # nobody
    index, near = nearest_covered(covered, band)
    for k in np.ndindex(2, 3):
        mask = covered[k].numpy()
        if not mask.any():
            assert not near[k].any()
            continue
        wanted = ndimage.distance_transform_edt(~mask)
        is_near = near[k].numpy()
        assert (is_near != ((wanted > 0) & (wanted <= band))).mean() < 0.002
        rows, columns = np.divmod(index[k].numpy(), 56)
        found = np.hypot(rows - np.arange(40)[:, None], columns - np.arange(56))
        excess = (found - wanted)[is_near]
        assert excess.min() > -1e-6
        assert excess.max() < 1
        assert (excess > 1e-6).mean() < 0.002


def test_flows_go_on_beside_both_bodies_alone() -> None:
    """A body of columns 4 to 7 that stands two pixels farther right in the source, which has a neighbour there."""
    covered = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    covered[..., 4:8] = True
    x = (torch.arange(16) * 2 + 1) / 16 - 1
    flow = torch.full((1, 1, 1, 16, 16, 2), -2.0)
    flow[..., 4:8, 0], flow[..., 4:8, 1] = x[4:8] + 2 * 2 / 16, x[:, None]
    source = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    source[..., 6:10] = True
    source[..., 11] = True  # an arm beside it
    found = flow_beyond(flow, covered, source, 3)[0, 0, 0]
    torch.testing.assert_close(found[..., 4:8, :], flow[0, 0, 0, :, 4:8])
    torch.testing.assert_close(found[:, 8, 0], (x[8] + 4 / 16).expand(16))
    assert (found[:, 9] == -2).all()  # there the source's arm is
    torch.testing.assert_close(found[:, 10, 0], (x[10] + 4 / 16).expand(16))
    assert (found[:, 11:] == -2).all()  # too far away
    torch.testing.assert_close(found[:, 1, 0], (x[1] + 4 / 16).expand(16))
    assert (found[:, 0] == -2).all()


def test_drawing_dresses_the_body(prepared_root: Path, body: Body) -> None:
    config = GeneratorConfig(
        background_network=False, channels=(4, 6, 8), residual_blocks=1, spade_hidden=4
    )
    known = random_checkpoint(config, 0, surface_tables(body, "clothed"))
    people = [
        read_person([f"00{k}/1/1"], size=64, num_sources=2, root=prepared_root) for k in (1, 2)
    ]
    motion = motion_of(open_frames("002/1/1@0,1", root=prepared_root))
    (plan,) = imitate(people[0], motion, body)
    scene = set_scene(plan, known, body)
    assert scene.thickness is not None
    assert scene.thickness.shape == (body.num_vertices,)
    assert scene.sources.source_inputs[0, 0, :3].abs().max() > 0
    outside = torch.from_numpy(people[0].masks[0] == 0)
    assert (scene.sources.source_inputs[0, 0, :3][:, outside] == 0).all()  # cut out
    assert len(list(synthesize(plan, known, body))) == 2
    wearing = transfer([Dressed(people[0]), Dressed(people[1], ("upper",))], motion, body)
    mixed = set_scene(wearing, known, body).thickness
    assert mixed is not None
    alone = set_scene(replace(plan, people=(Dressed(people[1]),)), known, body).thickness
    assert alone is not None
    from_one, from_two = ((mixed == one).sum() for one in (scene.thickness, alone))
    assert from_one > 100
    assert from_two > 100
