"""The paper's tables on real data: how well images follow masks, how real they look, and what they are good for."""

from seggd_training.evaluation.options import EvaluateOptions, Part
from seggd_training.evaluation.run import evaluate
from seggd_training.evaluation.shipped import segmenter_to_ship

__all__ = ["EvaluateOptions", "Part", "evaluate", "segmenter_to_ship"]
