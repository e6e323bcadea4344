"""A run's images depend on their number alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seggd_rt.diffusion import MaskEncoding, encode, encode_table, name_classes
from seggd_training.data import Batches, Dataset
from tests.training.scenes import CLASSES, draw_scenes


@pytest.fixture
def dataset() -> Dataset:
    images, labels = draw_scenes(10)
    return Dataset(images[..., None], labels, name_classes(CLASSES), tuple(map(str, range(10))))


def _batches(dataset: Dataset, **changes: Any) -> Batches:
    return Batches(dataset, MaskEncoding.ONE_HOT, **{"seed": 3, "train_steps": 1000, "augment": True, **changes})


def test_images_do_not_depend_on_their_batch(dataset: Dataset) -> None:
    whole = _batches(dataset).draw(0, 24)
    again = _batches(dataset)
    parts = [again.draw(start, count) for start, count in ((16, 8), (0, 5), (5, 11))]
    for full, *pieces in zip(whole, *(parts[k] for k in (1, 2, 0)), strict=True):
        assert torch.equal(full, torch.cat(pieces))


def test_an_epoch_shows_every_image_once_in_its_own_order(dataset: Dataset) -> None:
    batches = _batches(dataset, augment=False)
    values = torch.from_numpy(dataset.images[..., 0]).float() / 127.5 - 1
    orders = []
    for epoch in range(3):
        x0 = batches.draw(10 * epoch, 10).x0[:, 0]
        order = [int((values - image).abs().amax(dim=(1, 2)).argmin()) for image in x0]
        assert sorted(order) == list(range(10))
        assert torch.equal(values[order], x0)
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]


def test_noise_is_normal_and_times_are_uniform(dataset: Dataset) -> None:
    batch = _batches(dataset).draw(0, 500)
    assert abs(batch.eps.mean().item()) < 0.01
    assert abs(batch.eps.var().item() - 1) < 0.02
    assert len(torch.unique(batch.eps[:, 0, 0, 0])) == 500
    counts = torch.bincount(batch.t // 100, minlength=10)
    assert counts.sum() == 500
    assert ((counts - 50).abs() <= 3).all()  # spread more evenly than chance would


def test_one_batch_holds_many_subsets_and_the_switch_keeps_all(dataset: Dataset) -> None:
    def subsets(batches: Batches) -> set[tuple[bool, ...]]:
        return {tuple(mask.any(dim=(1, 2)).tolist()) for mask in batches.draw(0, 64)[1].bool()}

    assert subsets(_batches(dataset)) == {(True, False), (False, True), (True, True)}
    assert subsets(_batches(dataset, empty_subset=0.3)) == {(True, False), (False, True), (True, True), (False, False)}
    assert subsets(_batches(dataset, ablation=False)) == {(True, True)}
    assert subsets(_batches(dataset, ablation=False, empty_subset=0.3)) == {(True, True), (False, False)}


@pytest.mark.parametrize("encoding", MaskEncoding)
def test_validation_is_in_order_and_whole(dataset: Dataset, encoding: MaskEncoding) -> None:
    batches = Batches(dataset, encoding, seed=0, train_steps=1000, ablation=False, shuffle=False)
    batch = batches.draw(0, 10)
    np.testing.assert_array_equal(batch.mask.numpy(), encode(dataset.label_maps, encode_table(encoding, 3)))
    assert batch.x0.min() >= -1
    assert batch.x0.max() <= 1
    np.testing.assert_allclose((batch.x0[:, 0].numpy() + 1) * 127.5, dataset.images[..., 0], atol=1e-4)


def test_sixteen_bits_reach_the_network(dataset: Dataset) -> None:
    levels = np.arange(dataset.images.size, dtype=np.uint16).reshape(dataset.images.shape) * 25
    x0 = _batches(replace(dataset, images=levels), augment=False, shuffle=False).draw(0, len(dataset)).x0
    np.testing.assert_allclose(x0[:, 0].numpy(), levels[..., 0] / 65535 * 2 - 1, atol=1e-6)
