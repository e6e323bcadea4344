"""What is measured: faithfulness, realism, memorization, class subsets, interpolation, downstream use, cost."""

from seggd_training.evaluation.measures.bootstrap import Estimate, column_means, estimate_images
from seggd_training.evaluation.measures.cases import Cases, choose_cases, draw_images
from seggd_training.evaluation.measures.cost import (
    Contender,
    Cost,
    CostRow,
    CostStudy,
    Setting,
    default_grid,
    parse_grid,
)
from seggd_training.evaluation.measures.faithfulness import Faithfulness, measure_faithfulness
from seggd_training.evaluation.measures.interpolation import AT, WEIGHTS, InterpolationScores, measure_interpolation
from seggd_training.evaluation.measures.memorization import (
    COPY,
    NEAR,
    QUANTILES,
    ClosestPair,
    Distances,
    Memorisation,
    measure_memorisation,
)
from seggd_training.evaluation.measures.nearest import SIDE
from seggd_training.evaluation.measures.realism import RealImages, Realism, measure_realism
from seggd_training.evaluation.measures.scores import Scores, patient_dice
from seggd_training.evaluation.measures.similarity import ssim
from seggd_training.evaluation.measures.subsets import SubsetScores, measure_ablation
from seggd_training.evaluation.measures.use import UseScores, measure_use

__all__ = [
    "AT",
    "COPY",
    "NEAR",
    "QUANTILES",
    "SIDE",
    "WEIGHTS",
    "Cases",
    "ClosestPair",
    "Contender",
    "Cost",
    "CostRow",
    "CostStudy",
    "Distances",
    "Estimate",
    "Faithfulness",
    "InterpolationScores",
    "Memorisation",
    "RealImages",
    "Realism",
    "Scores",
    "Setting",
    "SubsetScores",
    "UseScores",
    "choose_cases",
    "column_means",
    "default_grid",
    "draw_images",
    "estimate_images",
    "measure_ablation",
    "measure_faithfulness",
    "measure_interpolation",
    "measure_memorisation",
    "measure_realism",
    "measure_use",
    "parse_grid",
    "patient_dice",
    "ssim",
]
