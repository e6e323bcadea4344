"""NIfTI: slices of every orientation, images back on the mask's grid, and files that are none."""

from __future__ import annotations

import gzip
import itertools
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seggd_rt.bundle import Bundle, Manifest
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.imaging import Axis, ImageStack, Reading, Slice, dump, read_real
from seggd_rt.imaging.geometry import nearest_axes
from seggd_rt.imaging.nifti import AffineMismatchWarning, MissingAffineWarning, NiftiReader, NiftiWriter
from seggd_rt.imaging.npy import NpyReader
from tests.making import MADE

nib: Any = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
PLANES = (Axis.AXIAL, Axis.CORONAL, Axis.SAGITTAL)
SHAPE = (5, 6, 7)


def save(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype), path)
    return path


def save_without_affine(path: Path, array: NDArray[Any], zooms: tuple[float, ...]) -> Path:
    image = nib.Nifti1Image(array, None)
    image.header.set_zooms(zooms)
    nib.save(image, path)
    return path


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], tilt: float = 0.0) -> NDArray[np.float64]:
    """Return NIfTI's affine of axes in an order, each with a sign, of three spacings, tilted about z."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (0.8, 1.5, 3.0)[axis]
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine[:3, 3] = (-40, 25, 310)
    return turn @ affine


def manifest_of(tiny_bundle: Path, window: tuple[float, float] | None = None) -> Manifest:
    return msgspec.structs.replace(Bundle.open(tiny_bundle).manifest, intensity_range=window)


ORDERS = st.permutations(range(3)).map(tuple)
SIGNS = st.tuples(*[st.sampled_from((-1, 1))] * 3)


@given(order=ORDERS, signs=SIGNS, tilt=st.floats(-0.5, 0.5), plane=st.sampled_from(PLANES))
@settings(deadline=None, max_examples=60)
def test_slices_are_turned_as_they_are_looked_at(
    tmp_path_factory: pytest.TempPathFactory,
    order: tuple[int, ...],
    signs: tuple[int, ...],
    tilt: float,
    plane: Axis,
) -> None:
    array = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    affine = affine_of(order, signs, tilt)
    file = NiftiReader().open(save(tmp_path_factory.mktemp("n") / "a.nii", array, affine), Reading(axis=plane))
    # The step to the next column, row and slice, in DICOM's axes: x left, y back, z head.
    column, row, slice_ = file.geometry.affine[:3, 0], file.geometry.affine[:3, 1], file.geometry.affine[:3, 2]
    expected = {Axis.AXIAL: (0, 1, 2), Axis.CORONAL: (0, -3, 1), Axis.SAGITTAL: (1, -3, 0)}[plane]
    for step, axis in zip((column, row, slice_), expected, strict=True):
        world = 2 if axis == -3 else axis
        assert np.argmax(np.abs(step)) == world
        assert (step[world] > 0) == (axis != -3)
    # Every voxel is where the file's own affine says.
    index = tuple(n - 1 for n in (len(file), *file.read(0).shape))
    k, i, j = index
    place = np.diag([-1, -1, 1, 1]) @ file.geometry.affine @ [j, i, k, 1]
    voxel = np.rint(np.linalg.solve(affine, place)).astype(int)[:3]
    assert file.read(k)[i, j] == array[tuple(voxel)]
    np.testing.assert_allclose(affine @ [*voxel, 1], place, atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), shear=st.floats(0, 0.2))
@settings(deadline=None)
def test_the_nearest_axes_are_those_that_nibabel_finds(seed: int, shear: float) -> None:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.5, 3, 3)
    affine[:3, :3] @= np.eye(3) + shear * random.normal(size=(3, 3))
    expected = nib.orientations.io_orientation(affine)
    assert nearest_axes(affine) == [(int(world), sign > 0) for world, sign in expected]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_axis_by_number_is_cut_as_the_array_lies(tmp_path: Path, number: int) -> None:
    array = np.arange(210, dtype=np.uint8).reshape(SHAPE)
    file = NiftiReader().open(
        save(tmp_path / "a.nii.gz", array, affine_of((2, 0, 1), (1, -1, -1))), Reading(Axis(str(number)))
    )
    assert len(file) == SHAPE[number]
    np.testing.assert_array_equal(np.stack([file.read(k) for k in range(len(file))]), np.moveaxis(array, number, 0))


@given(
    order=ORDERS,
    signs=SIGNS,
    axis=st.sampled_from([None, *Axis]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    codes=st.sampled_from([(2, 0), (1, 1), (0, 1)]),
)
@settings(deadline=None, max_examples=40)
def test_what_is_written_lies_where_the_mask_does(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bundle: Path,
    order: tuple[int, ...],
    signs: tuple[int, ...],
    axis: Axis | None,
    suffix: str,
    codes: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("n")
    array = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.int16)
    affine = affine_of(order, signs)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, codes[1])
    image.set_sform(affine, codes[0])
    nib.save(image, folder / f"mask{suffix}")
    source = NiftiReader().open(folder / f"mask{suffix}", Reading(axis))
    rows, columns = source.read(0).shape
    manifest = manifest_of(tiny_bundle, (-1000.0, 1000.0))
    stack = ImageStack(len(source), rows, columns, 1, manifest=manifest, source=source)
    with NiftiWriter().create(folder / f"out{suffix}", stack) as file:
        for index in range(len(source)):
            file.append(source.read(index).astype(np.float32) / 4, msgspec.structs.replace(MADE, seed=index))
    written = nib.load(folder / f"out{suffix}")
    assert written.get_data_dtype() == np.float32
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-6)
    np.testing.assert_array_equal(written.header.get_zooms(), image.header.get_zooms())
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert written.header[name] == image.header[name]
    np.testing.assert_allclose(written.get_fdata(), array / 4 * 2000 - 1000, atol=1e-3)
    made = NiftiWriter().made(folder / f"out{suffix}")
    assert [each.seed for each in made] == list(range(len(source)))
    assert made[0].classes == MADE.classes


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    source = NiftiReader().open(save(tmp_path / "mask.nii.gz", np.ones(SHAPE, np.uint8)))
    for name in ("a.nii.gz", "b.nii.gz"):
        with NiftiWriter().create(tmp_path / name, ImageStack(7, 6, 5, 1, source=source)) as file:
            for _ in range(7):
                file.append(np.ones((6, 5), np.float32), MADE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    source = NiftiReader().open(save(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8)))
    with (
        pytest.raises(ValueError, match="1 images were written of 7"),
        NiftiWriter().create(tmp_path / "out.nii", ImageStack(7, 6, 5, 1, source=source)) as file,
    ):
        file.append(np.ones((6, 5), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii"]


def test_whom_the_mask_is_of_is_not_written(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4))
    image.header["descrip"], image.header["db_name"], image.header["aux_file"] = b"DOE^JANE", b"DOE", b"JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"patient DOE"))
    nib.save(image, tmp_path / "mask.nii")
    source = NiftiReader().open(tmp_path / "mask.nii")
    with NiftiWriter().create(tmp_path / "out.nii", ImageStack(7, 6, 5, 1, source=source)) as file:
        for _ in range(7):
            file.append(np.ones((6, 5), np.float32), MADE)
    data = (tmp_path / "out.nii").read_bytes()
    assert b"DOE" not in data
    assert b"JANE" not in data
    assert nib.load(tmp_path / "out.nii").header["descrip"].tobytes().startswith(b"Synthetic, by seggd-rt")


def test_a_missing_affine_is_said(tmp_path: Path) -> None:
    path = save_without_affine(tmp_path / "a.nii", np.ones(SHAPE, np.uint8), (1, 2, 3))
    with pytest.warns(MissingAffineWarning, match=r"has no affine .*cut along its axis 2, and which side"):
        file = NiftiReader().open(path)
    assert (len(file), file.geometry.is_known, file.geometry.spacing_mm) == (7, False, (1.0, 2.0))
    with pytest.raises(DataError, match="which axis is coronal is not known: give --axis 0, 1 or 2"):
        NiftiReader().open(path, Reading(Axis.CORONAL))


def save_with_forms(path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], codes: tuple[int, int]) -> Path:
    image = nib.Nifti1Image(np.ones((64, 48, 40), np.uint8), sform)
    image.set_qform(qform, codes[1])
    image.set_sform(sform, codes[0])
    nib.save(image, path)
    return path


def test_a_sform_and_a_qform_that_disagree_are_said(tmp_path: Path) -> None:
    affine = affine_of((0, 1, 2), (-1, -1, 1), 0.3)
    sheared = affine @ np.array([[1, 0, 0, 0], [0, 1, 0.4, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    off = 39 * 0.4 * 1.5  # of the last slice
    for wrong, apart in ((sheared, rf"{off:.3g}"), (shifted_by(affine, 7), "7")):
        path = save_with_forms(tmp_path / "a.nii", wrong, affine, (1, 1))
        with pytest.warns(AffineMismatchWarning, match=rf"a\.nii disagree \(a corner is {apart} mm off\)"):
            file = NiftiReader().open(path)
        np.testing.assert_allclose(np.abs(np.linalg.det(file.geometry.affine)), 0.8 * 1.5 * 3, rtol=1e-5)
    path.write_bytes(path.read_bytes()[:256] + np.array([2, 2, 2], "f4").tobytes() + path.read_bytes()[268:])
    with pytest.warns(AffineMismatchWarning, match="the quaternion is invalid"):
        NiftiReader().open(path)
    for codes in ((1, 0), (0, 1)):  # one of them says it all
        NiftiReader().open(save_with_forms(tmp_path / "b.nii", sheared, affine, codes))
    for tilt in np.linspace(0, 6, 20):  # rounding is no difference
        turned = affine_of((2, 0, 1), (1, -1, 1), tilt)
        NiftiReader().open(save_with_forms(tmp_path / "c.nii", turned, turned, (2, 1)))


def shifted_by(affine: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    moved = affine.copy()
    moved[2, 3] += distance
    return moved


@pytest.mark.parametrize(("thin", "plane"), [(0, Axis.CORONAL), (1, Axis.AXIAL), (2, Axis.SAGITTAL)])
def test_a_volume_of_one_slice_is_that_slice(tmp_path: Path, thin: int, plane: Axis) -> None:
    shape = tuple(1 if axis == thin else n for axis, n in enumerate(SHAPE))
    array = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    path = save(tmp_path / "a.nii", array, affine_of((1, 2, 0), (1, 1, 1)))
    file = NiftiReader().open(path)
    assert (len(file), file.stacked) == (1, False)
    np.testing.assert_array_equal(file.read(0), NiftiReader().open(path, Reading(plane)).read(0))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(210, dtype=np.float32).reshape(SHAPE) % 4,
        np.arange(210, dtype=np.float64).reshape(*SHAPE, 1) % 4,
        np.arange(210, dtype=np.int64).reshape(SHAPE) % 4,
    ],
)
def test_labels_saved_as_floats_and_with_a_fourth_axis(tmp_path: Path, array: NDArray[Any]) -> None:
    file = NiftiReader().open(save(tmp_path / "a.nii.gz", array), Reading(Axis.THIRD))
    assert file.read(3).dtype.kind == "i"
    np.testing.assert_array_equal(file.read(3), array.reshape(SHAPE)[:, :, 3])


def _bytes(array: NDArray[Any]) -> bytes:
    data: bytes = nib.Nifti1Image(array, np.eye(4), dtype=array.dtype).to_bytes()
    return data


def _stated(shape: tuple[int, int, int], last_row: tuple[float, ...] = (0, 0, 1, 0)) -> bytes:
    """Return a file made by hand, of a header and 1000 bytes, which may be less than it states."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"][:4] = (3, *shape)
    header["sform_code"], header["srow_x"], header["srow_y"], header["srow_z"] = 1, (1, 0, 0, 0), (0, 1, 0, 0), last_row
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4) + bytes(1000)


def _nifti2(extent: float) -> bytes:
    data = bytearray(nib.Nifti2Image(WHOLE, np.eye(4)).to_bytes())
    header: Any = np.ndarray((), nib.nifti2.header_dtype, data)
    header["sform_code"], header["qform_code"] = 1, 0
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3] * extent
    return bytes(data)


WHOLE = np.ones(SHAPE, np.uint8)
BAD = {
    "empty.nii": b"",
    "text.nii": b"no volume" * 100,
    "text.nii.gz": b"no gzip" * 100,
    "half header.nii": _bytes(WHOLE)[:200],
    "half data.nii": _bytes(WHOLE)[:-50],
    "half gzip.nii.gz": gzip.compress(_bytes(np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)))[:-60],
    "half gzip header.nii.gz": gzip.compress(_bytes(WHOLE))[:20],
    "changed gzip.nii.gz": gzip.compress(_bytes(WHOLE))[:-8] + b"12345678",
    "huge.nii": _stated((30000, 30000, 30000)),
    "huge.nii.gz": gzip.compress(_stated((30000, 30000, 30000))),
    "bomb.nii.gz": gzip.compress(_stated((500, 500, 500))),
    "short.nii.gz": gzip.compress(_stated((100, 100, 4))),
    "negative.nii": _stated((5, -6, 7)),
    "four.nii": _bytes(np.ones((5, 6, 7, 2), np.uint8)),
    "colours.nii": _bytes(np.ones(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
    "complex.nii": _bytes(np.ones(SHAPE, np.complex64)),
    "fractions.nii": _bytes(np.full(SHAPE, 0.5, np.float32)),
    "nan.nii": _bytes(np.full(SHAPE, np.nan, np.float32)),
    "infinite.nii": _bytes(np.full(SHAPE, np.inf, np.float32)),
    "singular.nii": _stated(SHAPE, (0, 0, 0, 0)),
    "nan affine.nii": _stated(SHAPE, (0, 0, np.nan, 0)),
    "tiny.nii": _nifti2(1e-300),
    "endless.nii": _nifti2(1e300),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_label_volume_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name])
    with pytest.raises(DataError, match=name.split(".")[0]) as caught:
        NiftiReader().open(path).read(0)
    assert "\n" not in str(caught.value)


def test_damage_in_gzip_is_found_whatever_the_size(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 4, (50, 60, 70)).astype(np.uint8)
    data = bytearray(gzip.compress(_bytes(volume)))
    data[-8] ^= 1  # of the checksum
    (tmp_path / "a.nii.gz").write_bytes(data)
    with pytest.raises(DataError, match="is damaged, or not whole"):
        NiftiReader().open(tmp_path / "a.nii.gz").read(0)


def test_a_header_of_other_extensions_is_read(tmp_path: Path) -> None:
    image = nib.Nifti1Image(WHOLE, np.eye(4))
    for code, content in ((2, b"\x10\0\x10\0PN\4\0Anon"), (6, b"a comment"), (6, b"seggd-rt " + dump([MADE]))):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    nib.save(image, tmp_path / "a.nii.gz")
    assert NiftiWriter().made(tmp_path / "a.nii.gz") == (MADE,)
    np.testing.assert_array_equal(NiftiReader().open(tmp_path / "a.nii.gz").read(0), 1)


def test_a_file_that_changes_under_way_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", WHOLE)
    file = NiftiReader().open(path)
    file.read(0)
    save(path, np.zeros((5, 6, 8), np.uint8))
    with pytest.raises(DataError, match="was changed while it was in use"):
        file.read(0)


def test_pictures_have_no_place_in_a_volume(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 6, 5), np.uint8))
    with pytest.raises(OptionError, match=r"this one is a picture: write a \.png"):
        NiftiWriter().check(ImageStack(2, 6, 5, 1, source=NpyReader().open(tmp_path / "a.npy")))
    source = NiftiReader().open(save(tmp_path / "a.nii", WHOLE))
    with pytest.raises(OptionError, match="this bundle draws 3 channels"):
        NiftiWriter().check(ImageStack(7, 6, 5, 3, source=source))
    with pytest.raises(LabelMapError, match="three axes"):
        NiftiReader().open(save(tmp_path / "b.nii", np.ones((2, 2, 2, 2), np.uint8)))


@pytest.mark.parametrize(
    ("axis", "codes"),
    [*itertools.product(Axis, [(4, 2), (0, 3), (2, 0)]), (Axis.THIRD, (0, 0))],
)
def test_one_slice_is_written_where_it_was(tmp_path: Path, axis: Axis, codes: tuple[int, int]) -> None:
    """In any orientation of the file, with its own codes, and read again as the same slice."""
    sform, qform = codes
    turn = nib.eulerangles.euler2mat(0.1, -0.2, 0.15)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, -2.5], [0.8, 0, 0], [0, 1.5, 0]])
    affine[:3, 3] = 11, -22, 33
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8), affine)
    image.header["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, tmp_path / "a.nii")
    with warnings.catch_warnings(action="ignore", category=MissingAffineWarning):
        source = NiftiReader().open(tmp_path / "a.nii", Reading(axis))
        one = Slice(source, 1)
        rows, columns = source.read(1).shape
        pixels = np.random.default_rng(1).random((rows, columns)).astype(np.float32)
        with NiftiWriter().create(tmp_path / "b.nii", ImageStack(1, rows, columns, 1, source=one)) as file:
            file.append(pixels)
        again = NiftiReader().open_real(tmp_path / "b.nii", Reading(axis))
    np.testing.assert_array_equal(again.read(0), pixels)
    assert len(again) == 1
    assert one.geometry is not None
    if codes != (0, 0):
        np.testing.assert_allclose(again.geometry.affine, one.geometry.affine, atol=1e-4)
    header = nib.load(tmp_path / "b.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == codes


def test_units_are_heeded(tmp_path: Path) -> None:
    for unit, factor in (("mm", 1), ("unknown", 1), ("micron", 0.001), ("meter", 1000)):
        for code in (0, 1):
            image = nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.diag([2.0, 3.0, 4.0, 1.0]))
            image.header.set_xyzt_units(unit)
            image.set_sform(image.affine, code)
            image.set_qform(image.affine, code)
            nib.save(image, tmp_path / "a.nii")
            with warnings.catch_warnings(action="ignore", category=MissingAffineWarning):
                geometry = NiftiReader().open(tmp_path / "a.nii").geometry
            down, across = geometry.spacing_mm
            np.testing.assert_allclose(sorted([down / factor, across / factor]), [2, 3])


def test_real_slices_are_seen_through_the_intensity_range(tmp_path: Path, tiny_bundle: Path) -> None:
    volume = np.linspace(-2000, 2000, 24 * 32 * 3).reshape(32, 24, 3).astype(np.float32)
    path = save(tmp_path / "ct.nii.gz", volume)
    manifest = manifest_of(tiny_bundle, (-1000.0, 1000.0))
    found = read_real(path, manifest, Reading(Axis.AXIAL, index=1))
    expected = ((volume[::-1, ::-1, 1].T + 1000) / 2000).clip(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for nothing in (np.nan, np.inf):
        volume[3, 4, 1] = nothing
        save(path, volume)
        with pytest.raises(DataError, match="values that are no numbers"):
            read_real(path, manifest, Reading(index=1))
        assert read_real(path, manifest, Reading(index=0)).shape == (24, 32)
    with pytest.raises(OptionError, match="holds 3 slices: say which with --from-slice, from 0 to 2"):
        read_real(path, manifest)
    with pytest.raises(OptionError, match="has no slice 3"):
        read_real(path, manifest, Reading(index=3))
    with pytest.raises(DataError, match="states no intensity range"):
        read_real(path, manifest_of(tiny_bundle), Reading(index=0))
