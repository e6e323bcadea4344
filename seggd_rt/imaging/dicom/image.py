"""The object of DICOM that an image becomes: CT, MR or Secondary Capture, in the place of its label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.imaging.dicom.file import CREATOR, GROUP, RECORD, WHITE
from seggd_rt.imaging.dicom.study import MAKER, Study, describe_study, equipment, modality
from seggd_rt.imaging.provenance import Provenance, dump, note
from seggd_rt.optional import require
from seggd_rt.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LEVELS = 255
"""Fewer whole numbers than this between black and white would coarsen an image."""
_DIGITS = 9
"""After the point, of millimetres that are computed: less is noise."""


@dataclass(frozen=True)
class Scale:
    """How [0, 1] becomes stored values, and those the modality's.

    Attributes
    ----------
    black, white
        The modality's values of 0 and 1.
    slope, intercept
        From a stored value to the modality's.
    signed
        Whether stored values are.
    unit
        Of the modality's values: HU, or US for none.
    """

    black: float
    white: float
    slope: float
    intercept: float
    signed: bool
    unit: str

    @classmethod
    def of(cls, manifest: Manifest) -> Scale:
        """Return a bundle's: whole numbers of its intensity range where 16 bits hold them, else all of 16 bits."""
        if manifest.intensity_range is None:
            return cls(0, WHITE, 1, 0, False, "US")
        black, white = manifest.intensity_range
        unit = "HU" if modality(manifest) == "CT" else "US"
        signed = black < 0
        if white - black >= _LEVELS and black >= -(1 << 15) and white <= ((1 << 15) - 1 if signed else WHITE):
            return cls(black, white, 1, 0, signed, unit)
        return cls(black, white, (white - black) / WHITE, black, False, unit)

    def store(self, image: NDArray[np.float32]) -> NDArray[np.integer]:
        """Return stored values, int16 or uint16, of an image, float32 in [0, 1]."""
        values = self.black + image.astype(np.float64) * (self.white - self.black)
        dtype = np.dtype(np.int16 if self.signed else np.uint16)
        limits = np.iinfo(dtype)
        stored: NDArray[np.integer] = np.rint((values - self.intercept) / self.slope).clip(limits.min, limits.max)
        return stored.astype(dtype.newbyteorder("<"))


def image(study: Study, index: int, pixels: NDArray[np.integer], made: Provenance | None) -> Dataset:
    """Return the object of one slice.

    Parameters
    ----------
    study
        What it shares with others.
    index
        Of the slice.
    pixels
        (H, W) int16 or uint16 as `Scale.store` gives them.
    made
        How it was made.
    """
    pydicom = require("pydicom", extra="dicom", feature="DICOM")
    kind = modality(study.manifest)
    data = pydicom.Dataset()
    describe_study(data, study)
    data.SOPClassUID = _CLASSES.get(kind, _SECONDARY_CAPTURE)
    data.SOPInstanceUID = study.uid(f"image/{index}")
    data.SyntheticData = "YES"
    data.Modality = kind
    data.SeriesInstanceUID = study.uid("images")
    data.SeriesNumber = 1
    data.SeriesDescription = f"Synthetic {kind if kind in _CLASSES else 'images'} by {MAKER}"
    data.InstanceNumber = index + 1
    data.ImageType = ["DERIVED", "SECONDARY", *{"CT": ["AXIAL"], "MR": ["OTHER"]}.get(kind, [])]
    data.DerivationDescription = about = note([] if made is None else [made])
    data.Laterality = ""
    if study.marked or not study.mixed:  # what a real image had burned in is not known
        data.BurnedInAnnotation = "YES" if study.marked else "NO"
    _describe_kind(data, kind)
    _describe_place(data, study, index)
    _describe_pixels(data, study, pixels)
    data.Manufacturer = data.ManufacturerModelName = MAKER
    data.SoftwareVersions = __version__ if made is None else made.version
    if made is not None:
        about += f" Bundle {made.bundle}, seed {made.seed}, {made.engine} in {made.precision}."
        data.DeviceSerialNumber = made.bundle
    data.ContributingEquipmentSequence = [equipment(data, about)]
    if made is not None:
        block = data.private_block(GROUP, CREATOR, create=True)
        block.add_new(RECORD, "UT", dump([made]).decode())
    return data


def _describe_kind(data: Dataset, kind: str) -> None:
    """Set what the object's class asks for and a drawn image has none of, as empty as it may be."""
    if kind not in _CLASSES:
        data.ConversionType = "SYN"
        return
    data.PatientPosition = ""
    if kind == "CT":
        data.KVP, data.AcquisitionNumber = None, None
    else:
        data.ScanningSequence, data.SequenceVariant = "RM", "NONE"  # research mode
        for keyword in ("ScanOptions", "MRAcquisitionType"):
            setattr(data, keyword, "")
        for keyword in ("EchoTime", "EchoTrainLength", "RepetitionTime"):
            setattr(data, keyword, None)


def _describe_place(data: Dataset, study: Study, index: int) -> None:
    plane, step = study.planes[index], round(study.step_mm, _DIGITS)
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = study.frame_of_reference, ""
    data.ImagePositionPatient = _decimals(plane.position)
    data.ImageOrientationPatient = _decimals(plane.orientation)
    data.PixelSpacing = _decimals(plane.spacing_mm)
    location = round(float(plane.normal @ plane.position), _DIGITS)
    data.SliceThickness, data.SpacingBetweenSlices, data.SliceLocation = _decimals([step, step, location])
    data.PatientOrientation = ""


def _describe_pixels(data: Dataset, study: Study, pixels: NDArray[np.integer]) -> None:
    scale = Scale.of(study.manifest)
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(scale.signed)
    data.LossyImageCompression = "00"
    if data.Modality == "CT" or (scale.slope, scale.intercept) != (1, 0):
        data.RescaleSlope, data.RescaleIntercept = map(_decimal, (scale.slope, scale.intercept))
        data.RescaleType = scale.unit
    data.WindowCenter = _decimal((scale.black + scale.white) / 2)
    data.WindowWidth = _decimal(scale.white - scale.black)
    data.VOILUTFunction = "LINEAR_EXACT"
    data.PixelData = pixels.tobytes()


def _decimals(numbers: Sequence[float]) -> list[str]:
    """Return millimetres, or cosines, as Decimal Strings."""
    return [_decimal(number + 0.0) for number in numbers]  # -0 becomes 0


def _decimal(number: float) -> str:
    """Return a number as a Decimal String, as exact as 16 characters are."""
    valuerep = require("pydicom.valuerep", extra="dicom", feature="DICOM")
    text: str = valuerep.format_number_as_ds(float(number))
    return text
