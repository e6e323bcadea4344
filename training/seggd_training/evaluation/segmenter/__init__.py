"""The independent segmenter that reads images: its network, training and features."""

from seggd_training.evaluation.segmenter.features import FeatureGraph, segmenter_features
from seggd_training.evaluation.segmenter.network import Segmenter, SegmenterConfig, standardize
from seggd_training.evaluation.segmenter.origin import (
    POOR_DICE,
    Origin,
    PoorSegmenterWarning,
    Say,
    given_segmenter,
    own_segmenter,
    segmenter_config,
)

__all__ = [
    "POOR_DICE",
    "FeatureGraph",
    "Origin",
    "PoorSegmenterWarning",
    "Say",
    "Segmenter",
    "SegmenterConfig",
    "given_segmenter",
    "own_segmenter",
    "segmenter_config",
    "segmenter_features",
    "standardize",
]
