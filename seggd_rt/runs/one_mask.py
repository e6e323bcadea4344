"""The files of a command that draws from one label map: that map, what it must not write over, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seggd_rt.bundle import Manifest
from seggd_rt.errors import DataError, OptionError
from seggd_rt.files import make_folder
from seggd_rt.imaging import (
    PLAIN,
    Format,
    ImageStack,
    LabelMapSet,
    Place,
    Provenance,
    Reading,
    Slice,
    choose,
    read_real,
    read_region,
    require_writer,
    stem,
)
from seggd_rt.imaging.dicom import check_said
from seggd_rt.runs.mask_checks import check_label_maps, checked, fitted
from seggd_rt.runs.output import Output, check_file
from seggd_rt.runs.records import check_replaceable


@dataclass(frozen=True)
class OneMask:
    """One label map.

    Attributes
    ----------
    label_map
        (H, W) uint8 in the bundle's size.
    source
        Where it is: a file of one label map.
    place
        Where it lies in the patient, before it was fitted.
    manifest, reading
        What it was fitted to, and how it was read.
    """

    label_map: NDArray[np.uint8]
    source: Slice
    place: Place
    manifest: Manifest
    reading: Reading

    @classmethod
    def read(cls, path: Path, manifest: Manifest, reading: Reading = PLAIN) -> OneMask:
        """Read the label map of a file, or the slice that `reading` names; warns as `plan_run` does.

        Raises
        ------
        LabelMapError
            It has the wrong type or labels.
        DataError
            The file is missing or damaged, or a folder of several.
        OptionError
            It holds several, and `reading` names none of them.
        """
        masks = LabelMapSet.open(path, reading.of_bundle(manifest))
        check_said(reading.segments, masks.files)
        if len(masks.files) != 1:
            raise DataError(f"{path} holds {len(masks.files)} label maps; give one")
        source = Slice(masks.files[0], choose(masks.files[0], reading))
        check_label_maps(LabelMapSet((source,)), manifest, None, reading.fit)
        label_map = checked(source, 0, manifest)
        place = Place(source.geometry, (label_map.shape[0], label_map.shape[1]))
        return cls(fitted(source, label_map, manifest, reading.fit), source, place, manifest, reading)

    def read_real(self, path: Path, index: int | None = None) -> NDArray[np.float32]:
        """Return the real image to mix with it: a volume's slice `index`, wherever that lies, else the one beside it.

        See `seggd_rt.imaging.real.read_real`.
        """
        return read_real(path, self.manifest, self.reading, self.place, index)

    def read_region(
        self, path: Path, index: int | None = None, classes: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Return the region that lies where it does, or a volume's slice `index` where places cannot be compared.

        See `seggd_rt.imaging.real.read_region`.
        """
        reading = self.reading if index is None else replace(self.reading, index=index)
        return read_region(path, self.manifest, reading, self.place, classes)

    @property
    def name(self) -> str:
        """What its images are named after: its file's name without the suffix, and its number of several."""
        place = f"_{self.source.index}" if self.source.file.stacked else ""
        return f"{stem(self.source.path)}{place}"

    def files(
        self, output: str | Path, names: Sequence[str], images_as: Format | None = None, inputs: Sequence[Path] = ()
    ) -> list[Path]:
        """Return where images of these names go, and check all of it: to a folder, or all to one file.

        Raises
        ------
        OptionError
            There is no such format, or it cannot hold these images.
        OutputError
            They cannot be written there, or would replace what somebody else wrote.
        """
        target = Output.find(output, [self.source], images_as)
        if not target.is_folder:
            target.writer.check(self._stack(len(names)))
            check_file(target.path, *inputs)
            return [target.path] * len(names)
        if target.path.exists() and target.path.samefile(self.source.path.parent):
            raise OptionError(f"{output} is where the label map is: give images a folder of their own with -o")
        target.writer.check(self._stack(1))
        files = [target.path / target.file_name(name, single=True) for name in names]
        for file in files:
            check_file(file, *inputs)
        return files

    def write(
        self,
        files: Sequence[Path],
        images: Sequence[NDArray[np.float32]],
        made: Sequence[Provenance],
        *,
        force: bool = False,
    ) -> None:
        """Write images drawn from it, (H, W[, C]) float32 in [0, 1], to the files that `files` returned.

        Raises
        ------
        OptionError
            A file that is there was made with other settings, unless `force` says that it may be replaced.
        OutputError
            They cannot be written.
        """
        make_folder(files[0].parent)
        all_images = list(zip(images, made, strict=True))
        for path in dict.fromkeys(files):
            here = [each for file, each in zip(files, all_images, strict=True) if file == path]
            may_replace = partial(check_replaceable, path, [each for _, each in here], force=force)
            with require_writer(path).create(path, self._stack(len(here)), may_replace) as file:
                for pixels, each in here:
                    file.append(pixels, each)

    def _stack(self, count: int) -> ImageStack:
        image = self.manifest.image
        return ImageStack(
            count,
            image.height,
            image.width,
            image.channels,
            manifest=self.manifest,
            source=self.source,
            fit=self.reading.fit,
        )
