"""Runs over label volumes: seeds of slices, files, resumption, shards."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import seggd_rt
from seggd_rt.bundle import Bundle
from seggd_rt.diffusion import AspectRatioWarning, derive_seed
from seggd_rt.engine import NetworkShape
from seggd_rt.errors import OptionError
from seggd_rt.imaging import Axis, Fit, Format, Reading
from seggd_rt.imaging.nifti import NiftiWriter
from seggd_rt.runs import Plan, Shard, SliceNoise, plan_run, run
from seggd_rt.runs.dataset import FinishedImagesWarning
from seggd_rt.runs.mask_checks import CutMaskWarning, ResizedMaskWarning
from seggd_rt.runs.records import ManifestFile
from tests.bundles import TINY
from tests.engines.analytic import AnalyticNetwork

nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
BUNDLE = Bundle.open(TINY)
STEPS = 3
SLICES = 5


@pytest.fixture
def generator() -> Iterator[seggd_rt.Generator]:
    with seggd_rt.Generator(BUNDLE, AnalyticNetwork(NetworkShape(1, 3, 24, 32), std=0.2)) as opened:
        yield opened


@pytest.fixture
def masks(tmp_path: Path, golden_mask: NDArray[np.uint8]) -> Path:
    """A folder of two volumes whose axial slices are the golden mask's size, the second upside down in its file."""
    folder = tmp_path / "masks"
    folder.mkdir()
    slices = np.stack([np.roll(golden_mask, index, axis=0) for index in range(SLICES)])
    lps = slices.transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(lps, np.diag([-1.0, -1.0, 2.0, 1.0])), folder / "a.nii.gz")
    nib.save(nib.Nifti1Image(lps[:, :, ::-1], np.diag([-1.0, -1.0, -2.0, 1.0])), folder / "b.nii")
    return folder


def plan(masks: Path, output: Path, **options: object) -> Plan:
    return plan_run(BUNDLE, masks, output, **{"steps": STEPS, **options})  # type: ignore[arg-type]


def test_a_volume_gets_a_volume_with_seeds_derived_from_one(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    planned = plan(masks, tmp_path / "out", seed=9, count=2)
    assert [target.name for target in planned.targets()] == [
        f"{name}_{derive_seed(9, place, copy)}" for place, name in enumerate("ab") for copy in (0, 1)
    ]
    records = list(run(planned, generator, batch=3))
    assert len(records) == len(planned) == 4 * SLICES
    volume = derive_seed(9, 1, 0)
    mine = [record for record in records if record.file == f"b_{volume}.nii.gz"]
    assert [(r.file_index, r.mask_index, r.seed) for r in mine] == [
        (index, index, derive_seed(volume, index)) for index in range(SLICES)
    ]
    written = nib.load(tmp_path / "out" / mine[0].file)
    np.testing.assert_array_equal(written.affine, nib.load(masks / "b.nii").affine)
    items = next(target for target in planned.targets() if target.name == f"b_{volume}").items
    for item in items:
        alone = generator(planned.label_map(item), seed=item.seed, steps=STEPS)
        np.testing.assert_allclose(written.get_fdata()[:, :, SLICES - 1 - item.index].T, alone, atol=1e-6)
    assert NiftiWriter().made(tmp_path / "out" / mine[0].file) == tuple(record.provenance for record in mine)


def test_shared_noise_gives_alike_slices_of_alike_masks(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    lps = np.repeat(golden_mask.T[:, :, None], 3, axis=2)
    nib.save(nib.Nifti1Image(lps, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / "same.nii")
    drawn = {}
    for noise in SliceNoise:
        planned = plan(tmp_path / "same.nii", tmp_path / f"{noise}.nii", seed=4, slice_noise=noise)
        seeds = [record.seed for record in run(planned, generator)]
        assert (seeds == [4] * 3) == (noise is SliceNoise.SHARED)
        drawn[noise] = nib.load(tmp_path / f"{noise}.nii").get_fdata()
    assert np.ptp(drawn[SliceNoise.SHARED], axis=2).max() == 0
    assert np.ptp(drawn[SliceNoise.INDEPENDENT], axis=2).max() > 0.05


def test_slices_as_pictures_are_the_volumes_own(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    list(run(plan(masks / "a.nii.gz", tmp_path / "a.nii", seed=7), generator))
    records = list(run(plan(masks / "a.nii.gz", tmp_path / "pictures", seed=7, images_as=Format.PNG), generator))
    volume = nib.load(tmp_path / "a.nii").get_fdata()
    for index, record in enumerate(records):
        assert record.file == f"a_{index}_{derive_seed(7, index)}.png"
        picture = np.asarray(Image.open(tmp_path / "pictures" / record.file))
        np.testing.assert_array_equal(picture, np.rint(volume[:, :, index].T * np.float32(255)))


@pytest.mark.filterwarnings("ignore::seggd_rt.runs.dataset.FinishedImagesWarning")
def test_a_volume_that_was_edited_is_drawn_again(masks: Path, tmp_path: Path, generator: seggd_rt.Generator) -> None:
    first, *_ = run(plan(masks, tmp_path / "out"), generator)
    path = tmp_path / "out" / first.file
    whole, image = path.read_bytes(), nib.load(path)
    pixels = np.asarray(image.dataobj).copy()
    pixels[3, 4, 2] += 1
    nib.save(nib.Nifti1Image(pixels, None, image.header), path)
    assert {record.file for record in run(plan(masks, tmp_path / "out"), generator)} == {first.file}
    assert path.read_bytes() == whole


def test_a_run_that_is_started_again_and_shards_make_the_whole(
    masks: Path, tmp_path: Path, generator: seggd_rt.Generator
) -> None:
    settings: dict[str, object] = {"count": 2, "random_classes": True}
    list(run(plan(masks, tmp_path / "whole", **settings), generator))
    with closing(run(plan(masks, tmp_path / "again", **settings), generator)) as records:
        next(records)
    finished = len(list((tmp_path / "again").glob("*.nii.gz")))
    assert 0 < finished < 4
    with pytest.warns(FinishedImagesWarning, match=f"{finished * SLICES} of 20 images"):
        assert len(list(run(plan(masks, tmp_path / "again", **settings), generator))) == (4 - finished) * SLICES
    for index in (1, 2, 3):
        part = plan(masks, tmp_path / "parts", shard=Shard(index, 3), **settings)
        assert len(list(run(part, generator))) == len(part)
    whole = volumes_in(tmp_path / "whole")
    assert len(whole) == 4
    assert volumes_in(tmp_path / "again") == whole
    assert volumes_in(tmp_path / "parts") == whole
    records_of = {r.file: r.classes for r in ManifestFile(tmp_path / "whole").records()}
    for record in ManifestFile(tmp_path / "parts").records():
        assert record.classes == records_of[record.file]


def volumes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def test_off_size_slices_go_back_to_their_own_grid(
    tmp_path: Path, generator: seggd_rt.Generator, golden_mask: NDArray[np.uint8]
) -> None:
    wide = np.pad(golden_mask, ((7, 2), (30, 11)))
    nib.save(nib.Nifti1Image(wide.T[:, :, None], np.diag([-0.5, -1.5, 2.0, 1.0])), tmp_path / "wide.nii.gz")
    for fit in Fit:
        with warnings.catch_warnings():
            if fit is Fit.RESIZE:
                warnings.simplefilter("ignore", ResizedMaskWarning)
                warnings.simplefilter("ignore", AspectRatioWarning)
            elif fit is Fit.CROP_PAD:
                warnings.simplefilter("ignore", CutMaskWarning)
            planned = plan(tmp_path / "wide.nii.gz", tmp_path / f"{fit}.nii.gz", reading=Reading(fit=fit))
        (record,) = run(planned, generator)
        assert record.fit == fit
        written = nib.load(tmp_path / f"{fit}.nii.gz")
        assert written.shape == (73, 33, 1)
        inside = written.get_fdata()[:, :, 0].T != 0
        # Of an image every pixel is above 0 here, so zeros are what was not drawn.
        assert inside.mean() == pytest.approx({"crop-pad": 24 * 32 / (33 * 73)}.get(fit, 1.0), abs=1e-3)


def test_what_does_not_go_together(masks: Path, tmp_path: Path, golden_mask: NDArray[np.uint8]) -> None:
    with pytest.raises(OptionError, match="one volume, and this run draws several"):
        plan(masks, tmp_path / "out.nii.gz")
    with pytest.raises(OptionError, match="one volume, and this run draws several"):
        plan(masks / "b.nii", tmp_path / "out.nii.gz", count=2)
    with pytest.raises(OptionError, match="holds one image, and this run draws 5"):
        plan(masks / "b.nii", tmp_path / "out.png")
    np.save(masks / "c.npy", golden_mask)
    with pytest.raises(OptionError, match="several formats: say with --format"):
        plan(masks, tmp_path / "out")
    with pytest.raises(OptionError, match="this one is a picture"):
        plan(masks / "c.npy", tmp_path / "out", images_as=Format.NIFTI)
    with pytest.raises(OptionError, match="is no file of npy"):
        plan(masks / "c.npy", tmp_path / "out.png", images_as=Format.NPY)
    (masks / "c.npy").unlink()
    with pytest.warns((ResizedMaskWarning, AspectRatioWarning, seggd_rt.EmptyMaskWarning)):
        assert len(plan(masks, tmp_path / "out", reading=Reading(Axis.CORONAL))) == 2 * 24
