"""Training of segmentation-guided diffusion models: data, mask ablation, the loop, and what it saves. Needs PyTorch.

`SyntheticDataset` and `SyntheticDictDataset` give the pairs that a finished model draws to PyTorch and MONAI.
"""

from seggd_training.data import SyntheticDataset, SyntheticDictDataset

__all__ = ["SyntheticDataset", "SyntheticDictDataset"]
