"""Segments to classes: as said, by label, by what their code means; what is left over is named."""

from __future__ import annotations

import pytest

from seggd_rt.diffusion import name_classes
from seggd_rt.errors import LabelMapError, OptionError
from seggd_rt.imaging import Reading
from seggd_rt.imaging.dicom import parse_map
from seggd_rt.imaging.dicom.segments import Segment, match_segments

CLASSES = name_classes(["Hintergrund", "liver", "kidneys"])


def matched(*segments: Segment, **said: str) -> dict[int, int]:
    return match_segments(segments, Reading(classes=CLASSES, segments=said), "a.dcm")


def test_names_match_whatever_their_case() -> None:
    assert matched(Segment(3, "LIVER"), Segment(5, " Kidneys ")) == {3: 1, 5: 2}


def test_what_a_code_means_matches_too() -> None:
    assert matched(Segment(1, "Segment_1", "Liver")) == {1: 1}
    assert matched(Segment(1, "Segment_1", "Liver"), liver="kidneys") == {1: 2}


def test_what_is_said_comes_first() -> None:
    assert matched(Segment(1, "liver"), Segment(2, "Left kidney"), Liver="kidneys", **{"LEFT KIDNEY": "Kidneys"}) == {
        1: 2,
        2: 2,
    }


@pytest.mark.parametrize("nothing", ["background", "Background", "hintergrund"])
def test_a_segment_can_be_left_out(nothing: str) -> None:
    assert matched(Segment(1, "liver"), Segment(2, "spleen"), spleen=nothing) == {1: 1, 2: 0}


def test_what_is_no_class_is_named_with_what_to_do() -> None:
    message = (
        "a.dcm has the segments 'liver', 'Spleen', and 'Spleen' is none of the classes 'liver', 'kidneys': say which "
        'with --map "Spleen=CLASS", or leave it out with --map "Spleen=background"'
    )
    with pytest.raises(LabelMapError) as raised:
        matched(Segment(1, "liver"), Segment(2, "Spleen", "Abdomen"))
    assert str(raised.value) == message


def test_a_map_to_no_class() -> None:
    with pytest.raises(OptionError, match="'liver' is mapped to 'livre', which is no class: there are 'liver', 'kid"):
        matched(Segment(1, "liver"), liver="livre")


def test_without_classes_numbers_are_ids() -> None:
    assert match_segments([Segment(7, "x")], Reading(), "a.dcm") == {7: 7}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], {}),
        (["Liver=liver"], {"Liver": "liver"}),
        (["Liver = liver , Spleen=background", "a=b"], {"Liver": "liver", "Spleen": "background", "a": "b"}),
        (["Lung, left=lungs,Lung, right=lungs"], {"Lung, left": "lungs", "Lung, right": "lungs"}),
        (["a=b=c"], {"a=b": "c"}),
        (["Liver=liver", "liver=Liver"], {"Liver": "liver", "liver": "Liver"}),
    ],
)
def test_maps(texts: list[str], expected: dict[str, str]) -> None:
    assert parse_map(texts) == expected


@pytest.mark.parametrize("texts", [["Liver"], ["=liver"], ["Liver="], ["a=b,c"], ["a=b", "A=c"]])
def test_what_is_no_map(texts: list[str]) -> None:
    with pytest.raises(OptionError, match="--map has"):
        parse_map(texts)
