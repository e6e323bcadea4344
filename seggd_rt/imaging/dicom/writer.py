"""DICOM out: a folder with one of images and one of the segmentation they were drawn from, or one slice's file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.errors import DataError, OptionError
from seggd_rt.files import MayReplace, NewFile, NewFolder
from seggd_rt.imaging.contract import ImageFile, ImageStack, LabelMapFile, PixelValues, StatedFile, unmarked
from seggd_rt.imaging.dicom import image as dicom_image
from seggd_rt.imaging.dicom import mask as dicom_mask
from seggd_rt.imaging.dicom import stated as dicom_stated
from seggd_rt.imaging.dicom import study as dicom_study
from seggd_rt.imaging.dicom.file import (
    CREATOR,
    DIRECTORY,
    GROUP,
    IMAGES,
    RECORD,
    SEGMENTATION,
    SEGMENTATIONS,
    SUFFIX,
    damage,
    read_header,
    sop_class,
    text,
)
from seggd_rt.imaging.dicom.reader import DicomSlices, members
from seggd_rt.imaging.dicom.segmentation import DicomSegmentation
from seggd_rt.imaging.dicom.study import MAKER
from seggd_rt.imaging.geometry import AS_STORED, Geometry
from seggd_rt.imaging.provenance import Provenance, dump, parse
from seggd_rt.imaging.watermark import mark
from seggd_rt.optional import require

_PERPENDICULAR = 1e-4


class LeftOutWarning(UserWarning):
    """Elements about a patient or study are not valid in DICOM, and are not copied."""


class DicomWriter:
    """Writes grey images as single-frame objects: a volume as a folder with its segmentation, a slice as a file."""

    suffixes: tuple[str, ...] = (SUFFIX,)
    ending = ""
    holds_many = True
    holds_volume = True

    def check(self, stack: ImageStack) -> None:
        """Say whether DICOM can hold these images: see `ImageWriter.check`."""
        if stack.channels != 1:
            raise OptionError(
                f"DICOM is written in grey, and this bundle draws {stack.channels} channels: write a .npy, or a .png"
            )
        _, source, geometry = _placed(stack)
        if stack.count != len(source):
            raise OptionError(f"DICOM holds an image of each slice: {len(source)}, not {stack.count}; write an .npy")
        across, down = geometry.affine[:3, 0], geometry.affine[:3, 1]
        if abs(across @ down) > _PERPENDICULAR * np.linalg.norm(across) * np.linalg.norm(down):
            raise OptionError(
                f"{source.path} has rows and columns that are not perpendicular, as DICOM's must be: write NIfTI"
            )
        for module in ("pydicom", "highdicom"):
            require(module, extra="dicom", feature="DICOM")
        if stack.keep_patient:
            _, left_out = _patient(source)
            if left_out:
                warnings.warn(
                    f"{source.path} has elements that are not valid in DICOM and are left out of the images: "
                    f"{', '.join(left_out)}",
                    LeftOutWarning,
                    stacklevel=2,
                )

    @contextmanager
    def create(self, path: Path, stack: ImageStack, may_replace: MayReplace | None = None) -> Iterator[ImageFile]:
        """Start a folder, or a file where the path ends in .dcm: see `ImageWriter.create`."""
        volume = _DicomImages(stack)
        if path.name.lower().endswith(SUFFIX):
            with NewFile(path, may_replace=may_replace) as file:
                yield volume
                file.write(volume.only())
            return
        with NewFolder(path, partial(_is_ours, path), may_replace=may_replace) as folder:
            yield volume
            for name, data in volume.files():
                folder.write(name, data)

    def made(self, path: Path) -> tuple[Provenance, ...]:
        """Return how a file's image, or a folder's images in the order of their numbers, were made."""
        files = [path]
        if not path.is_dir() and (sop_class(path) or "") in SEGMENTATIONS and _maker(path) == MAKER:
            raise DataError(f"{path} is the segmentation of generated images: give the folder of its volume")
        if path.is_dir():
            files = [each for each, kind in members(path) if kind not in SEGMENTATIONS]
        if not files:
            raise DataError(f"{path} holds no image of DICOM: give a folder that seggd-rt wrote")
        numbered = sorted(((*_record(each), each) for each in files), key=lambda found: found[0])
        return tuple(_only(parse(data, str(each)), each) for _, data, each in numbered)

    def stated(self, path: Path, *, kept: bool = False) -> tuple[StatedFile, ...]:
        """Return each object's header, and a segmentation's pixels: see `ImageWriter.stated`."""
        files = list(members(path)) if path.is_dir() else [(path, sop_class(path) or "")]
        headers = [(kind in SEGMENTATIONS, each, read_header(each)) for each, kind in files]
        with damage(path):
            headers.sort(key=lambda found: (found[0], int(found[2].get("InstanceNumber") or 0)))
        read = dicom_stated.stated([(each, header) for _, each, header in headers], kept=kept)
        return (
            *read,
            *(StatedFile(str(each.relative_to(path))) for each in _others(path, [each for each, _ in files])),
        )

    def values(self, manifest: Manifest) -> PixelValues:
        """Return the modality's values: see `ImageWriter.values`."""
        scale = dicom_image.Scale.of(manifest)
        return PixelValues(scale.white - scale.black, scale.slope)


def _only(made: tuple[Provenance, ...], path: Path) -> Provenance:
    if len(made) != 1:
        raise DataError(f"{path} holds one image and states how {len(made)} were made: it was changed")
    return made[0]


def _others(folder: Path, read: Sequence[Path]) -> list[Path]:
    """Return the DICOM files anywhere below a folder that are not read as its volume's: an archive would take them."""
    below = sorted(each for each in folder.rglob("*") if each not in read and each.is_file())
    return [each for each in below if sop_class(each) not in (None, DIRECTORY)]


def _is_ours(folder: Path, path: Path) -> bool:
    """Say whether seggd-rt wrote a file of a volume's folder, which a new try may then replace."""
    is_in_place = path.parent in (folder / IMAGES, folder / SEGMENTATION, folder)  # all in one folder, up to 0.1
    return is_in_place and path.name.endswith(SUFFIX) and sop_class(path) is not None and _maker(path) == MAKER


def _maker(path: Path) -> str:
    with damage(path):
        return text(read_header(path).get("Manufacturer"))


def _record(path: Path) -> tuple[int, bytes]:
    """Return an image's number, and the record of its making."""
    header = read_header(path)
    with damage(path):
        number = int(header.get("InstanceNumber") or 0)
        try:
            data = header.private_block(GROUP, CREATOR)[RECORD].value
        except KeyError as error:
            raise unmarked(path) from error
    return number, data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogatepass")


def _placed(stack: ImageStack) -> tuple[Manifest, LabelMapFile, Geometry]:
    """Return what says of images what they are and where they lie."""
    manifest, source = stack.manifest, stack.source
    if manifest is None or source is None or source.geometry is None:
        raise OptionError(
            "images in DICOM lie where their label map does, and this one is a picture: write a .png or .npy, or give "
            "label maps in DICOM or NIfTI"
        )
    if not source.geometry.is_known:
        raise OptionError(
            f"{source.path} does not state where its slices lie, and images in DICOM must: write another format with "
            "--format, or give the file an affine"
        )
    return manifest, source, source.geometry


def _patient(source: LabelMapFile) -> tuple[dict[str, str], tuple[str, ...]]:
    if not isinstance(source, DicomSegmentation | DicomSlices):
        raise OptionError(f"{source.path} names no patient to keep: leave --keep-patient out, or give DICOM")
    return dicom_study.kept_patient(source.example)


class _DicomImages:
    """Collects a volume's images, on their label map's pixels as stored, until all that is written is known."""

    def __init__(self, stack: ImageStack) -> None:
        self._stack = stack
        self._manifest, self._source, self._geometry = _placed(stack)
        self._scale = dicom_image.Scale.of(self._manifest)
        self._pixels: list[NDArray[np.integer]] = []
        self._labels: list[NDArray[np.integer]] = []
        stored = self._geometry.stored
        self._cut = AS_STORED if stored is None else stored.cut
        self._planes = self._geometry.planes(len(self._source))
        self._space = self._geometry.affine.tobytes()
        self._made: list[Provenance | None] = []

    def append(self, image: NDArray[np.float32], made: Provenance | None = None) -> None:
        label_map = self._source.read(len(self._pixels)).astype(np.uint8)
        # Where a file names no axes of the patient, what lies in them does.
        self._space = dicom_study.digest(self._space, label_map.tobytes()).encode()
        grey = image[..., 0] if image.ndim == 3 else image
        placed = self._cut.store(self._stack.window((label_map.shape[0], label_map.shape[1])).put(grey))
        if self._stack.mark:
            placed = mark(placed)
        if made is not None:
            kept = [each.id for each in self._manifest.classes if each.name in made.classes]
            label_map = np.where(np.isin(label_map, kept), label_map, np.uint8(0))
        self._pixels.append(self._scale.store(placed))
        self._labels.append(self._cut.store(label_map))
        self._made.append(made)

    def only(self) -> bytes:
        """Return the only slice as a file."""
        (pixels,), (made,) = self._pixels, self._made
        study, _ = self._study()
        return dicom_study.encode(dicom_image.image(study, 0, pixels, made))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and files: slices, then the segmentation."""
        if len(self._pixels) != len(self._source):
            raise ValueError(f"{len(self._pixels)} images were written of {len(self._source)}")
        (study, codes), headers = self._study(), []
        digits = max(4, len(str(len(self._pixels))))
        for index, (pixels, made) in enumerate(zip(self._pixels, self._made, strict=True)):
            image = dicom_image.image(study, index, pixels, made)
            yield f"{IMAGES}/{index + 1:0{digits}}{SUFFIX}", dicom_study.encode(image)
            del image.PixelData
            headers.append(image)
        kept = {name for made in self._made if made is not None for name in made.classes}
        classes = [each for each in self._manifest.classes[1:] if each.name in kept or None in self._made]
        labels = np.stack(self._labels)
        mask = dicom_mask.segmentation(study, headers, labels, classes, codes)
        yield f"{SEGMENTATION}/{SEGMENTATION}{SUFFIX}", dicom_study.encode(mask)

    def _study(self) -> tuple[dicom_study.Study, dicom_mask.Codes]:
        """Return what all objects share, and the codes of the source's segments."""
        patient, _ = _patient(self._source) if self._stack.keep_patient else ({}, ())
        frame = self._geometry.frame_of_reference or dicom_study.derive_uid("space", self._space.decode())
        about = dump([made for made in self._made if made is not None]) if any(self._made) else b""
        codes = dicom_mask.codes(self._source, self._manifest, as_stated=bool(patient))
        identity = dicom_study.digest(
            about,
            self._space,
            frame.encode(),
            repr(self._planes).encode(),
            msgspec.json.encode([dicom_study.modality(self._manifest), self._stack.mark, patient]),
            repr(codes).encode(),
            *(pixels.tobytes() for pixels in self._pixels),
        )
        mixed = any(made is not None and made.real_sha256 is not None for made in self._made)
        step_mm = abs(float(self._planes[0].normal @ self._geometry.affine[:3, 2]))
        study = dicom_study.Study(
            self._manifest, self._planes, step_mm, frame, identity, patient, self._stack.mark, mixed
        )
        return study, codes
