"""Bodies in SMPL's format: the embedded open body, or a user's licensed SMPL file."""

from iper_toolkit.body.layers import Layer, load_layers
from iper_toolkit.body.model import (
    Body,
    BodyMismatch,
    BodyParams,
    PosedBody,
    load_body,
)
from iper_toolkit.body.parts import PARTS, Surface

__all__ = [
    "PARTS",
    "Body",
    "BodyMismatch",
    "BodyParams",
    "Layer",
    "PosedBody",
    "Surface",
    "load_body",
    "load_layers",
]
