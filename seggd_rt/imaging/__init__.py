"""Label maps and images in files: one reader and one writer contract, each format one module.

`contract.py` has the contracts, `formats.py` the table of formats by suffix: a new format is one module and one line
there.
"""

from seggd_rt.imaging.contract import (
    PLAIN,
    Format,
    ImageStack,
    ImageWriter,
    LabelMapFile,
    PixelValues,
    Reader,
    Reading,
    Slice,
    StatedFile,
)
from seggd_rt.imaging.fit import Fit, Window
from seggd_rt.imaging.folder import LabelMapSet, require_unicode
from seggd_rt.imaging.formats import WRITERS, find_reader, require_reader, require_writer, stem, writer_like, writer_of
from seggd_rt.imaging.geometry import Axis, Place
from seggd_rt.imaging.grid import png_bytes, render_grid, render_titled, rgb
from seggd_rt.imaging.npy import NpyArray
from seggd_rt.imaging.provenance import CheckResult, Provenance, dump, parse
from seggd_rt.imaging.real import ResizedImageWarning, choose, find_real, find_region, read_real, read_region
from seggd_rt.imaging.watermark import MARK

__all__ = [
    "MARK",
    "PLAIN",
    "WRITERS",
    "Axis",
    "CheckResult",
    "Fit",
    "Format",
    "ImageStack",
    "ImageWriter",
    "LabelMapFile",
    "LabelMapSet",
    "NpyArray",
    "PixelValues",
    "Place",
    "Provenance",
    "Reader",
    "Reading",
    "ResizedImageWarning",
    "Slice",
    "StatedFile",
    "Window",
    "choose",
    "dump",
    "find_reader",
    "find_real",
    "find_region",
    "parse",
    "png_bytes",
    "read_real",
    "read_region",
    "render_grid",
    "render_titled",
    "require_reader",
    "require_unicode",
    "require_writer",
    "rgb",
    "stem",
    "writer_like",
    "writer_of",
]
