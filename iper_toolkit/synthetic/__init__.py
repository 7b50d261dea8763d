"""Synthetic people: a drawn iPER in iPER's own layout, with exact truth (see `dataset`)."""

from iper_toolkit.synthetic.dataset import SIZES, Written, write_dataset

__all__ = ["SIZES", "Written", "write_dataset"]
