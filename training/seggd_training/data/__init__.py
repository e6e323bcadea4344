"""Training data: images with label maps, patients, augmentation, and classes removed at random."""

from seggd_training.data.batches import Batch, Batches, keyed_seed
from seggd_training.data.dataset import Dataset, Split, has_split, load_dataset, names_classes
from seggd_training.data.intensity import Levels, to_8_bit, to_unit
from seggd_training.data.leakage import check_apart
from seggd_training.data.npz import read_npz
from seggd_training.data.synthetic import SyntheticDataset, SyntheticDictDataset

__all__ = [
    "Batch",
    "Batches",
    "Dataset",
    "Levels",
    "Split",
    "SyntheticDataset",
    "SyntheticDictDataset",
    "check_apart",
    "has_split",
    "keyed_seed",
    "load_dataset",
    "names_classes",
    "read_npz",
    "to_8_bit",
    "to_unit",
]
