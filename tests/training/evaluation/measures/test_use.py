"""Segmenters trained on synthetic pairs, with stand-ins whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.grey_hearts import heart_dataset

pytest.importorskip("monai", reason="needs the extra `eval`")

from seggd_training.data import Dataset
from seggd_training.evaluation.measures import choose_cases, measure_use


def test_each_segmenter_is_trained_on_its_pairs_and_compared_patient_by_patient() -> None:
    real, measured = heart_dataset(24), heart_dataset(9, seed=1)
    cases = choose_cases(measured)
    drawn = np.full((24, 24, 32, 1), 128, np.uint8)
    trained: dict[str, Dataset] = {}

    def perfect(images: NDArray[np.float32]) -> NDArray[np.uint8]:
        assert images is cases.images
        return cases.label_maps

    def blind(images: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.zeros_like(cases.label_maps)

    def train(dataset: Dataset, name: str) -> object:
        trained[name] = dataset
        return {"synthetic": blind, "both": perfect}[name]

    found = measure_use(perfect, train, real, drawn, cases, seed=0)  # type: ignore[arg-type]
    assert trained.keys() == {"synthetic", "both"}
    assert (trained["synthetic"].images == 128).all() and trained["synthetic"].images.dtype == np.uint8
    assert np.array_equal(trained["synthetic"].label_maps, real.label_maps)
    assert len(trained["both"]) == 48 and len(trained["both"].names) == 48
    assert np.array_equal(trained["both"].images[:24], real.images)
    assert (found.real.dice.mean, found.synthetic.dice.mean, found.both.dice.mean) == (1, 0, 1)
    assert found.synthetic_less_real is not None and found.both_less_real is not None
    assert (found.synthetic_less_real.mean, found.both_less_real.mean, found.pairs) == (-1, 0, 24)
