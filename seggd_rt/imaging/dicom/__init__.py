"""DICOM in and out: series, segmentations, and the headers that both share."""

from seggd_rt.imaging.dicom.file import IMAGES, SEGMENTATION
from seggd_rt.imaging.dicom.reader import DicomReader
from seggd_rt.imaging.dicom.segments import check_said, parse_map
from seggd_rt.imaging.dicom.slices import plane_axis
from seggd_rt.imaging.dicom.writer import DicomWriter

__all__ = ["IMAGES", "SEGMENTATION", "DicomReader", "DicomWriter", "check_said", "parse_map", "plane_axis"]
