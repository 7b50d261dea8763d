"""Clips and bodies: decode, crop, fit, mask and describe videos of people."""

__version__ = "0.1.0"
