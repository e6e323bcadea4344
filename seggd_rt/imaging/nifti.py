"""NIfTI, .nii and .nii.gz: label volumes, real volumes, and images that lie where their label volume does.

The file's array is never turned: a `Cut` is a view of it as slices, (slice, row, column), through which slices are
read and written, so that what is written has the mask's own shape, affine and zooms.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.errors import DataError, LabelMapError, OptionError
from seggd_rt.files import MayReplace, NewFile, open_regular
from seggd_rt.imaging.contract import (
    MAX_VOXELS,
    PLAIN,
    SAME_SHARE,
    Format,
    ImageFile,
    ImageStack,
    LabelMapFile,
    PixelValues,
    Reading,
    Slice,
    StatedFile,
    check_size,
    unmarked,
)
from seggd_rt.imaging.file_stamp import Stamp
from seggd_rt.imaging.geometry import AS_STORED, PLANES, Axis, Cut, Geometry, nearest_axes
from seggd_rt.imaging.provenance import KEY, MAX_BYTES, Provenance, dump, parse
from seggd_rt.optional import require

if TYPE_CHECKING:
    import nibabel
    from typing_extensions import Buffer

_SUFFIXES = (".nii.gz", ".nii")
_COMMENT = 6
"""The code of a header extension of text."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's axes of the patient, x to the right and y to the front, to DICOM's, and back."""
_MOST_OF_GZIP = 1032
"""Bytes that one byte of gzip can become at most."""
_MAX_HEADER = 2 * MAX_BYTES
"""Largest header, with its extensions, that is read."""
_LONGEST = 540
"""Bytes of NIfTI-2's header, without extensions; NIfTI-1's has 348."""
_LEAST_EXTENSION = 16
"""What is shorter before the header's end is no extension."""
_KEPT = 2
"""Volumes kept in memory between two reads of their slices."""
_CHUNK = 1 << 24
_MM = {1: 1000.0, 3: 0.001}
"""Of a metre and a micrometre, by a header's code for its unit of space; others are millimetres, stated or not."""
_TOLERANCE = 1e-6
"""Of a label saved as a float, and of the smallest extent of an affine's axes beside the largest."""
_SAME_PLACE = 0.01
"""Of a voxel's shortest side: how far apart sform and qform, in float32, may place a corner of a volume."""
_LEAST_EXTENT = 1e-12
"""Of a voxel, in mm; that of the largest is its inverse."""


class MissingAffineWarning(UserWarning):
    """A NIfTI file does not state where its voxels lie."""


class AffineMismatchWarning(UserWarning):
    """The sform and the qform of a NIfTI file place its voxels differently."""


class ShearedAffineWarning(UserWarning):
    """Images are written with a sheared affine, which a qform cannot express."""


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI volume as slices, known by its header: label maps, (H, W) integers, or real images, (H, W) float32."""

    path: Path
    shape: tuple[int, int, int]
    geometry: Geometry
    _cut: Cut
    _stamp: Stamp
    _labels: bool
    physical: bool = True

    @property
    def stacked(self) -> bool:
        """Whether it has several slices."""
        return len(self) > 1

    def __len__(self) -> int:
        """Return how many slices it has."""
        return self.shape[self._cut.axes[0]]

    def read(self, index: int) -> NDArray[Any]:
        """Return one slice: see `LabelMapFile.read` and `RealFile.read`."""
        self._stamp.check(self.path)
        return np.ascontiguousarray(self._cut.view(_load(self.path, self._stamp, self._labels))[index])

    def empty_like(self, index: int | None = None) -> tuple[nibabel.Nifti1Image, NDArray[Any]]:
        """Return an image of zeros that lies where the file, or one slice of it, does, and its view as slices."""
        like = _open(self.path)
        shape, header, axis = list(self.shape), like.header.copy(), self._cut.axes[0]
        if index is not None:
            shape[axis], first = 1, shape[axis] - 1 - index if self._cut.backwards[0] else index
            if int(header["qform_code"]) > 0:
                corner, step = like.header.get_qform()[:3, [3, axis]].T
                header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = corner + first * step
            for row in ("srow_x", "srow_y", "srow_z"):
                header[row] = [*header[row][:3], header[row][3] + first * header[row][axis]]
        array = np.zeros(shape, np.float32)
        return _new_image(type(like), array, None, header), self._cut.view(array)


class NiftiReader:
    """Reads label volumes and real volumes from NIfTI."""

    format = Format.NIFTI
    suffixes: tuple[str, ...] = _SUFFIXES

    def owns(self, folder: Path) -> bool:
        """Return False: see `Reader.owns`."""
        return False

    def open(self, path: Path, reading: Reading = PLAIN) -> NiftiVolume:
        """Open a label volume by its header: see `Reader.open`."""
        return self._volume(path, reading, labels=True)

    def open_real(self, path: Path, reading: Reading = PLAIN) -> NiftiVolume:
        """Open a real volume by its header: see `Reader.open_real`."""
        return self._volume(path, reading, labels=False)

    def open_region(self, path: Path, reading: Reading = PLAIN) -> NiftiVolume:
        """Open a region as a label volume: see `Reader.open_region`."""
        return self.open(path, reading)

    def _volume(self, path: Path, reading: Reading, *, labels: bool) -> NiftiVolume:
        stamp = Stamp.of(path)
        image = _open(path)
        shape = _shape(path, image.shape)
        dtype = image.get_data_dtype()
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise LabelMapError(f"{path} holds {dtype}; a volume must hold numbers of up to 64 bits, one a voxel")
        needed, there = int(np.prod(shape)) * dtype.itemsize, stamp.size
        if needed > there * (_MOST_OF_GZIP if _is_packed(path) else 1):
            raise DataError(f"{path} states {dtype} {shape} and is too short for it: copy it again")
        cut, geometry = _place(path, image, shape, reading.axis)
        rows, columns = (shape[axis] for axis in cut.axes[1:])
        check_size(path, rows, columns)
        return NiftiVolume(path, shape, geometry, cut, stamp, labels)


class NiftiWriter:
    """Writes images of one channel as a volume, float32 in the bundle's intensity range, else in [0, 1]."""

    suffixes: tuple[str, ...] = _SUFFIXES
    ending = ".nii.gz"
    holds_many = True
    holds_volume = True

    def check(self, stack: ImageStack) -> None:
        """Say whether a NIfTI volume can hold these images: see `ImageWriter.check`."""
        if stack.channels != 1:
            raise OptionError(
                f"NIfTI holds grey volumes, and this bundle draws {stack.channels} channels: write a .npy"
            )
        if stack.source is None or stack.source.geometry is None:
            raise OptionError(
                "images in NIfTI lie where their label map does, and this one is a picture: write a .png or .npy, or "
                "give label maps in NIfTI or DICOM"
            )
        if stack.count != len(stack.source):
            raise OptionError(f"a volume of {len(stack.source)} slices cannot hold {stack.count} images: write an .npy")
        _nibabel()

    @contextmanager
    def create(self, path: Path, stack: ImageStack, may_replace: MayReplace | None = None) -> Iterator[ImageFile]:
        """Start a volume: see `ImageWriter.create`."""
        if stack.source is None or stack.source.geometry is None:
            raise OptionError("images in NIfTI need a label map file that states where they lie")
        volume = _NiftiImages(stack, stack.source, stack.source.geometry)
        with NewFile(path, may_replace=may_replace) as file:
            yield volume
            data = memoryview(volume.to_bytes())
            packer = zlib.compressobj(wbits=31) if _is_packed(path) else None
            for start in range(0, len(data), _CHUNK):
                chunk = data[start : start + _CHUNK]
                file.write(chunk if packer is None else packer.compress(chunk))
            if packer is not None:
                file.write(packer.flush())

    def made(self, path: Path) -> tuple[Provenance, ...]:
        """Return how a volume's slices were made: see `ImageWriter.made`."""
        for extension in _open(path).header.extensions:
            if _is_record(extension):
                return parse(_content(extension)[len(_MARK) :].rstrip(b"\0"), str(path))
        raise unmarked(path)

    def stated(self, path: Path, *, kept: bool = False) -> tuple[StatedFile, ...]:
        """Return all of the header but how numbers are stored, and other extensions: see `ImageWriter.stated`.

        Where the volume lies is stated by its corners in mm.
        """
        image = _open(path)
        header, shape = image.header, _shape(path, image.shape)
        texts = {
            f"extension {number}": f"{extension.get_code()} {hashlib.sha256(_content(extension)).hexdigest()}"
            for number, extension in enumerate(header.extensions)
            if not _is_record(extension) or any(map(_is_record, header.extensions[:number]))
        }
        numbers = {}
        for name in header:
            value = np.asarray(header[name])
            if name in _STORAGE or name in _FORM_FIELDS:
                continue
            if value.dtype.kind == "S":
                texts[name] = bytes(value.item()).rstrip(b"\0").decode("latin-1")
            else:
                numbers[name] = tuple(np.ravel(value).astype(float).tolist())
        unit, rows = _unit_mm(header), np.array([header[f"srow_{axis}"] for axis in "xyz"], np.float64)
        for name, matrix in (("affine", image.affine), ("sform", rows), ("qform", _qform(header))):
            numbers[name] = tuple(np.ravel(_corners(np.asarray(matrix, np.float64), shape) * unit).tolist())
        for name in ("sform", "qform"):
            numbers[name] = (float(header[f"{name}_code"]), *numbers[name])
        voxel = float(np.linalg.norm(np.asarray(image.affine, np.float64)[:3, :3], axis=0).min()) * unit
        texts = {name: text for name, text in texts.items() if text}
        return (StatedFile(path.name, texts, numbers, dict.fromkeys(_FORMS, SAME_SHARE * voxel)),)

    def values(self, manifest: Manifest) -> PixelValues:
        """Return floats in the bundle's intensity range, else in [0, 1]: see `ImageWriter.values`."""
        black, white = manifest.intensity_range or (0, 1)
        return PixelValues(white - black, 0)


_MARK = f"{KEY} ".encode()
_STORAGE = (
    "sizeof_hdr", "magic", "vox_offset", "datatype", "bitpix", "scl_slope", "scl_inter", "glmax", "glmin", "dim",
    "extents", "session_error", "regular", "eol_check",
)  # fmt: skip
"""Fields of a header that say how voxels are stored; their values and their shape are compared as such."""
_FORMS = ("affine", "sform", "qform")
_FORM_FIELDS = (
    "sform_code", "srow_x", "srow_y", "srow_z", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
    "qoffset_y", "qoffset_z",
)  # fmt: skip


def _content(extension: Any) -> bytes:
    content = extension.get_content()
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else bytes(content)


def _is_record(extension: Any) -> bool:
    """Say whether an extension is the record of how images were made."""
    return extension.get_code() == _COMMENT and _content(extension).startswith(_MARK)


def _qform(header: nibabel.Nifti1Header) -> NDArray[np.float64]:
    """Return a header's qform, (4, 4); NaNs where its quaternion is invalid."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(header.get_qform(), np.float64)
    except _damage():
        return np.full((4, 4), np.nan)


def _corners(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return where the outer corners of a volume's first and last voxels lie, (8, 3); `matrix` is (3 or 4, 4)."""
    ends = np.array(list(np.ndindex(2, 2, 2))) * np.array(shape) - 0.5
    points: NDArray[np.float64] = ends @ matrix[:3, :3].T + matrix[:3, 3]
    return points


class _NiftiImages:
    """Puts images into the volume of their label maps."""

    def __init__(self, stack: ImageStack, source: LabelMapFile, geometry: Geometry) -> None:
        nib = _nibabel()
        self._stack, self._size = stack, source.read(0).shape
        window = None if stack.manifest is None else stack.manifest.intensity_range
        self._black, self._white = (0.0, 1.0) if window is None else window
        rows, columns = self._size
        if isinstance(source, NiftiVolume):
            self._image, self._slices = source.empty_like()
        elif isinstance(source, Slice) and isinstance(source.file, NiftiVolume):
            self._image, self._slices = source.file.empty_like(source.index)
        elif geometry.is_known:
            cut = AS_STORED if geometry.stored is None else geometry.stored.cut
            array = np.zeros(cut.array_shape((len(source), rows, columns)), np.float32)
            self._slices = cut.view(array)
            affine = _LPS @ geometry.affine @ np.linalg.inv(cut.to_array(array.shape))
            self._image = _new_image(nib.Nifti1Image, array, affine, None)
            if _mismatch(self._image, array.shape):
                self._image.set_qform(None, 0)
                warnings.warn(
                    f"{source.path} has sheared slices (from a tilted gantry, for example), and a qform cannot express "
                    "shear: the images have only an sform (qform_code 0); for programs that read only the qform, "
                    "resample the label map to perpendicular axes",
                    ShearedAffineWarning,
                    stacklevel=2,
                )
        else:  # spacings alone are: in the order of axes that such a file is read in
            array = np.zeros((rows, columns, len(source)), np.float32)
            self._slices = array.transpose(2, 0, 1)
            across, down, step = np.linalg.norm(geometry.affine[:3, :3], axis=0)
            self._image = _new_image(nib.Nifti1Image, array, np.diag([down, across, step, 1.0]), None)
            self._image.set_sform(None, 0)
            self._image.set_qform(None, 0)
        self._made: list[Provenance] = []
        self._count = 0

    def append(self, image: NDArray[np.float32], made: Provenance | None = None) -> None:
        pixels = image[..., 0] if image.ndim == 3 else image
        placed = self._stack.window((self._size[0], self._size[1])).put(pixels)
        self._slices[self._count] = self._black + placed * np.float32(self._white - self._black)
        self._count += 1
        if made is not None:
            self._made.append(made)

    def to_bytes(self) -> bytes:
        if self._count != len(self._slices):
            raise ValueError(f"{self._count} images were written of {len(self._slices)}")
        if self._made:
            nib = _nibabel()
            self._image.header["descrip"] = f"Synthetic, by seggd-rt {self._made[0].version}"[:79].encode()
            self._image.header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, _MARK + dump(self._made)))
        data: bytes = self._image.to_bytes()
        return data


def _new_image(
    kind: type[nibabel.Nifti1Image],
    array: NDArray[np.float32],
    affine: NDArray[np.float64] | None,
    like: nibabel.Nifti1Header | None,
) -> nibabel.Nifti1Image:
    """Return an image of an array; of another's header only what says where voxels lie is taken."""
    nib = _nibabel()
    header = kind.header_class()
    header.set_data_shape(array.shape)
    header.set_data_dtype(np.float32)
    if like is None:
        header.set_xyzt_units("mm")
        image = kind(array, affine, header)
        image.set_sform(affine, nib.nifti1.xform_codes.code["scanner"])
        image.set_qform(affine, nib.nifti1.xform_codes.code["scanner"])
        return image
    fields = ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
    for field in (*fields, "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[field] = like[field]
    return kind(array, None, header)


def _place(
    path: Path, image: nibabel.Nifti1Image, shape: tuple[int, int, int], axis: Axis | None
) -> tuple[Cut, Geometry]:
    """Return how a volume is cut, and where its slices lie."""
    known = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    affine = np.asarray(image.affine, np.float64)
    extents = np.linalg.svd(affine[:3, :3], compute_uv=False) if np.isfinite(affine).all() else np.zeros(3)
    if not max(_TOLERANCE * extents[0], _LEAST_EXTENT) < extents[2] <= extents[0] < 1 / _LEAST_EXTENT:
        raise DataError(f"{path} has an affine that lets voxels fall together, or apart: set its sform, or its pixdim")
    thin = [number for number in range(3) if shape[number] == 1]
    if axis is None and len(thin) == 1:
        cut = Cut.along(thin[0])
        if known:
            cut = Cut.of_plane(PLANES[nearest_axes(affine)[thin[0]][0]], _LPS @ affine)
    elif axis in (Axis.FIRST, Axis.SECOND, Axis.THIRD):
        cut = Cut.along(int(axis))
    elif known:
        cut = Cut.of_plane(axis or Axis.AXIAL, _LPS @ affine)
    elif axis is not None:
        raise DataError(f"{path} has no affine, so which axis is {axis} is not known: give --axis 0, 1 or 2")
    else:
        cut = Cut.along(2)
    if not known:
        warnings.warn(
            f"{path} has no affine (its sform and qform codes are 0): it is cut along its axis {cut.axes[0]}, and "
            "which side of its images is left is not known",
            MissingAffineWarning,
            stacklevel=2,
        )
        affine = np.diag([*np.abs(image.header["pixdim"][1:4].astype(np.float64)), 1.0])
    if mismatch := _mismatch(image, shape):
        warnings.warn(
            f"the sform and the qform of {path} disagree ({mismatch}), and seggd-rt uses the sform: make both "
            "equal, or set qform_code to 0",
            AffineMismatchWarning,
            stacklevel=2,
        )
    unit = _unit_mm(image.header)
    return cut, Geometry(_LPS @ np.diag([unit, unit, unit, 1.0]) @ affine @ cut.to_array(shape), is_known=known)


def _mismatch(image: nibabel.Nifti1Image, shape: tuple[int, ...]) -> str:
    """Return how sform and qform disagree on where a volume's corners lie; "" where they agree, or one is unset."""
    header = image.header
    if not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return ""
    sform = header.get_sform()
    with np.errstate(all="ignore"):
        try:
            difference = header.get_qform() - sform
        except _damage():
            return "the quaternion is invalid"
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
        apart = np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max()
        if apart <= _SAME_PLACE * np.linalg.norm(sform[:3, :3], axis=0).min():
            return ""
    return f"a corner is {apart * _unit_mm(header):.3g} mm off"


def _unit_mm(header: nibabel.Nifti1Header) -> float:
    return _MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a volume's three axes; axes of one after them are no matter."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise LabelMapError(f"{path} has shape {shape}; a volume has three axes: split it, or take one of its volumes")
    if min(shape) < 1 or int(np.prod(np.array(shape, object))) > MAX_VOXELS:
        raise DataError(f"{path} states a volume of {shape}: it must have 1 to {MAX_VOXELS} voxels")
    return shape[0], shape[1], shape[2]


def _open(path: Path) -> nibabel.Nifti1Image:
    nib = _nibabel()
    try:
        return _kind_of(path).from_filename(path, mmap=False)  # a mapped file that is truncated ends the process
    except DataError:
        raise
    except (nib.filebasedimages.ImageFileError, *_damage()) as error:
        raise DataError(f"{path} cannot be read as NIfTI ({_line(error)}): save it again") from error


def _kind_of(path: Path) -> type[nibabel.Nifti1Image]:
    """Return the class of nibabel that reads a file whose header ends where it says.

    Its extensions are walked through here before: nibabel would unpack a whole file for one of a negative size, and
    make a list without end of small ones.
    """
    nib = _nibabel()
    with open_regular(path) as packed:
        file = gzip.GzipFile(fileobj=packed) if _is_packed(path) else packed
        data = file.read(_LONGEST)
        kind = next((kind for size, kind in _sizes(nib).items() if _states(data, size)), None)
        if kind is None:
            raise DataError(f"{path} is no NIfTI file, or not a whole one: save it as .nii.gz")
        size = kind.header_class.template_dtype.itemsize
        header = kind.header_class(data[:size], check=False)
        end = header["vox_offset"].item()
        if not end <= _MAX_HEADER:  # nor is NaN
            raise DataError(f"{path} states a header of {end:g} bytes: over {_MAX_HEADER >> 20} MiB it is not read")
        data += file.read(max(0, int(end) - len(data)))
    at = size + 4
    has_extensions = any(data[size : size + 1])
    while has_extensions and not 0 <= end - at < _LEAST_EXTENSION:
        long = struct.unpack_from(f"{header.endianness}i", data, at)[0] if at + 8 <= len(data) else 0
        if long < 8 or at + long > end:
            raise DataError(f"{path} has a header extension that is none, or not whole: save it again")
        at += long
    return kind


def _sizes(nib: Any) -> dict[int, type[nibabel.Nifti1Image]]:
    return {348: nib.Nifti1Image, 540: nib.Nifti2Image}


def _states(data: bytes, size: int) -> bool:
    """Say whether a header of this size begins here, in either order of bytes."""
    return len(data) >= size and size in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))


@lru_cache(_KEPT)
def _load(path: Path, stamp: Stamp, labels: bool) -> NDArray[Any]:
    """Return a volume's array, (X, Y, Z): integers of labels, float32 of real images."""
    try:
        array = _unpacked(path) if _is_packed(path) else np.asanyarray(_open(path).dataobj)
        array = array.reshape(_shape(path, array.shape))
    except DataError:
        raise
    except _damage() as error:
        raise DataError(f"{path} is damaged, or not whole ({_line(error)}): copy it again") from error
    if not labels:
        return np.asarray(array, np.float32)
    if array.dtype.kind == "f":
        return _whole_numbers(path, array)
    return np.asarray(array)


def _unpacked(path: Path) -> NDArray[Any]:
    """Return the array of a .nii.gz, read to the end, where gzip has the checksum by which damage is found."""
    kind = _kind_of(path)
    with open_regular(path) as packed, _Unpacking(fileobj=packed) as file:
        image = kind.from_file_map({"image": _nibabel().FileHolder(fileobj=file)})
        array: NDArray[Any] = np.asanyarray(image.dataobj)
        while file.read(_CHUNK):
            pass
    return array


class _Unpacking(gzip.GzipFile):
    """Reads into memory that is there, a chunk at a time: its base would read everything first, and copy that."""

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer; return how many bytes came."""
        view, at = memoryview(buffer).cast("B"), 0
        while read := super().readinto(view[at : at + _CHUNK]):
            at += read
        return at


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _whole_numbers(path: Path, array: NDArray[np.floating]) -> NDArray[np.int32]:
    """Return labels saved as floats, slab by slab: a volume of doubles is large enough once."""
    labels = np.empty(array.shape, np.int32, order="F")
    for k in range(array.shape[2]):
        slab = array[:, :, k]
        whole = np.rint(slab)
        if not np.isfinite(slab).all() or np.abs(slab - whole).max() > _TOLERANCE:
            raise LabelMapError(f"{path} holds fractions; a label volume has one class id a voxel: is it an image?")
        labels[:, :, k] = whole.clip(-1, 1 << 20)
    return labels


def _damage() -> tuple[type[Exception], ...]:
    """What nibabel raises for files that are damaged."""
    nib = _nibabel()
    errors: tuple[type[Exception], ...] = (
        OSError, EOFError, ValueError, OverflowError, zlib.error, nib.spatialimages.HeaderDataError,
    )  # fmt: skip
    return errors


def _line(error: Exception) -> str:
    """Return what nibabel says, which may have several lines, as one."""
    return " ".join(str(error).split())


def _nibabel() -> Any:
    return require("nibabel", extra="nifti", feature="NIfTI")
