"""Proof that a graph computes what PyTorch computes: the golden run, and the largest differences from it."""

from seggd_export.parity.golden import example_label_map, true_float32
from seggd_export.parity.sampler_parity import IMAGE_LIMIT, prove_sampler

__all__ = ["IMAGE_LIMIT", "example_label_map", "prove_sampler", "true_float32"]
