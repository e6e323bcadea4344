"""Slices with places of their own as one volume: order, missing ones, what is no volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from seggd_rt.errors import DataError
from seggd_rt.imaging import Axis
from seggd_rt.imaging.dicom import plane_axis
from seggd_rt.imaging.dicom.slices import Plane, Volume, check_axis, stack

HERE = Path("series")
ACROSS, DOWN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def planes(
    *heights: float,
    tilt: float = 0,
    orientation: tuple[float, ...] = (*ACROSS, *DOWN),
    spacing: tuple[float, float] = (2, 3),
) -> list[Plane]:
    return [Plane((10.0, 20.0 + tilt * z, z), orientation, spacing) for z in heights]


def stacked(found: list[Plane], **options: object) -> Volume:
    return stack(HERE, found, thickness_mm=4, **options)  # type: ignore[arg-type]


def affine(step: tuple[float, ...], start: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array([[3, 0, step[0], start[0]], [0, 2, step[1], start[1]], [0, 0, step[2], start[2]], [0, 0, 0, 1]])


def test_slices_are_in_the_order_along_their_normal() -> None:
    found = stacked(planes(5, 0, 2.5))
    assert (found.places, found.count) == ((2, 0, 1), 3)
    np.testing.assert_allclose(found.affine, affine((0, 0, 2.5), (10, 20, 0)))


def test_where_rows_run_up_the_normal_looks_down() -> None:
    found = stacked(planes(5, 0, 2.5, orientation=(*ACROSS, 0.0, -1.0, 0.0)))
    assert found.places == (0, 2, 1)
    np.testing.assert_allclose(found.affine[:3, 2:], [[0, 10], [0, 20], [-2.5, 5]])
    np.testing.assert_allclose(found.affine[:3, 1], [0, -2, 0])


def test_one_slice_is_as_thick_as_it_states() -> None:
    np.testing.assert_allclose(stacked(planes(7)).affine, affine((0, 0, 4), (10, 20, 7)))


def test_a_tilted_gantry_is_kept() -> None:
    found = stacked(planes(0, 2, 4, tilt=0.5))
    np.testing.assert_allclose(found.affine, affine((0, 1, 2), (10, 20, 0)))


@pytest.mark.filterwarnings("ignore::seggd_rt.imaging.dicom.slices.EmptySlicesWarning")  # no thickness states it
def test_rounded_positions_are_even() -> None:
    heights = [round(k / 3, 3) for k in range(200)]
    assert stacked(planes(*heights)).places == tuple(range(200))
    found = stacked(planes(*heights[:50], *heights[140:]), sparse=True)
    assert found.places == (*range(50), *range(140, 200))
    assert found.count == 200


@pytest.mark.filterwarnings("ignore::seggd_rt.imaging.dicom.slices.EmptySlicesWarning")  # no thickness states it
def test_several_frames_of_a_slice_and_slices_without() -> None:
    found = stacked(planes(0, 10, 0, 2.5), sparse=True)
    assert (found.places, found.count) == ((0, 4, 0, 1), 5)
    np.testing.assert_allclose(found.affine, affine((0, 0, 2.5), (10, 20, 0)))


@pytest.mark.filterwarnings("ignore::seggd_rt.imaging.dicom.slices.EmptySlicesWarning")  # no thickness states it
def test_the_stated_distance_tells_of_slices_between() -> None:
    assert stacked(planes(0, 10), sparse=True).count == 2
    assert stacked(planes(0, 10), sparse=True, step_mm=2.5).count == 5
    assert stacked(planes(0, 10), sparse=True, step_mm=4).count == 2  # it cannot be right


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (planes(0, 2, 2, 4), "several slices at one place"),
        (planes(0, 2, 6, 8, 10), "slices missing: slices 1 and 2 are 4 mm apart, others 2 mm"),
        (planes(0, 2, 4.2, 6.1), r"at one distance \(1.9 to 2.2 mm\)"),
        ([*planes(0, 2), *planes(4, tilt=0.5)], "do not lie behind each other"),
        ([*planes(0), *planes(2, orientation=(*DOWN, *ACROSS))], "several orientations"),
        ([*planes(0), *planes(2, spacing=(2, 2))], "several pixel spacings"),
        (planes(0, orientation=(*ACROSS, *ACROSS)), "not perpendicular"),
        (planes(0, orientation=(0.0,) * 6), "not perpendicular"),
        (planes(0, spacing=(0, 1)), "are 0, 1, 4 mm apart, which cannot be"),
        (planes(0, spacing=(1, float("nan"))), "are 1, nan, 4 mm apart"),
        (planes(0, spacing=(1, 1e300)), r"are 1, 1e\+300, 4 mm apart"),
        (planes(0, float("nan")), "that is none"),
    ],
)
def test_what_is_no_volume(found: list[Plane], message: str) -> None:
    with pytest.raises(DataError, match=message):
        stacked(found)


def test_uneven_frames_are_no_volume() -> None:
    with pytest.raises(DataError, match="at one distance"):
        stacked(planes(0, 2, 5), sparse=True)


def test_only_the_stored_plane_can_be_asked_for() -> None:
    axial = affine((0, 0, 2.5), (0, 0, 0))
    sagittal = axial[:, [1, 2, 0, 3]]
    assert (plane_axis(axial), plane_axis(sagittal)) == (Axis.AXIAL, Axis.SAGITTAL)
    for asked in (None, Axis.AXIAL, Axis.FIRST):
        check_axis(HERE, asked, axial)
    with pytest.raises(DataError, match="holds axial slices, and DICOM is not cut along another axis, coronal"):
        check_axis(HERE, Axis.CORONAL, axial)
    with pytest.raises(DataError, match="of no known plane"):
        check_axis(HERE, Axis.AXIAL, None)
