"""The small mesh of the parity fixtures, as tables of a surface."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lwgan.surface_tables import SurfaceTables


@pytest.fixture(scope="session")
def raster_arrays(fixtures_folder: Path) -> dict[str, NDArray]:
    """What the reference drew of four poses of the small mesh, and the mesh itself."""
    with np.load(fixtures_folder / "pipeline" / "raster.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def toy_tables(raster_arrays: dict[str, NDArray]) -> "SurfaceTables":
    """Reference tables of the small mesh, which swap.npz and flow.npz have, too."""
    import torch

    from iper_toolkit.body.parts import Surface, swap_sides
    from iper_toolkit.body.surface_files import corner_order
    from lwgan.surface_tables import build_tables

    faces, rewound = raster_arrays["faces_smpl"], raster_arrays["faces_obj"]
    lengths = raster_arrays["part_face_end"] - raster_arrays["part_face_start"]
    part = np.repeat([swap_sides(part) for part in range(10)], lengths)
    surface = Surface(
        part=torch.from_numpy(part),
        facial_large=torch.from_numpy(raster_arrays["facial_large_faces"]),
        facial_small=torch.from_numpy(raster_arrays["facial_small_faces"]),
        front_body=torch.arange(64, 100),
        uv=torch.from_numpy(raster_arrays["vt"]).float(),
        uv_faces=torch.from_numpy(raster_arrays["faces_vt_uv"]),
        texture_order=torch.from_numpy(corner_order(faces, rewound)),
    )
    return build_tables("toy", torch.from_numpy(faces), surface, "reference")
