"""The files of a command that draws from one label map: that map, what it must not write over, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.atomic import check_name, check_writable, make_folder
from seggd_rt.errors import DataError
from seggd_rt.imaging.contract import PLAIN, Format, ImageStack, LabelMapFile, Reading
from seggd_rt.imaging.folder import LabelMapSet
from seggd_rt.imaging.formats import require_writer, stem
from seggd_rt.imaging.geometry import Geometry
from seggd_rt.imaging.real import choose, read_real
from seggd_rt.manifest import Manifest
from seggd_rt.mask_checks import check_label_maps, checked, fitted
from seggd_rt.output import Output
from seggd_rt.provenance import Provenance


@dataclass(frozen=True)
class OneMask:
    """One label map.

    Attributes
    ----------
    label_map
        (H, W) uint8 in the bundle's size.
    source
        Where it is: a file of one label map.
    manifest, reading
        What it was fitted to, and how it was read.
    """

    label_map: NDArray[np.uint8]
    source: Slice
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
        if len(masks.files) != 1:
            raise DataError(f"{path} holds {len(masks.files)} label maps; give one")
        source = Slice(masks.files[0], choose(masks.files[0], reading))
        check_label_maps(LabelMapSet((source,)), manifest, None, reading.fit)
        return cls(fitted(source, checked(source, 0, manifest), manifest, reading.fit), source, manifest, reading)

    def read_real(self, path: Path, index: int | None = None) -> NDArray[np.float32]:
        """Return the real image to mix with it: a volume's slice `index`, else its own, by place or by number.

        See `seggd_rt.imaging.real.read_real`.
        """
        if index is not None:
            return read_real(path, self.manifest, replace(self.reading, index=index))
        return read_real(path, self.manifest, self.reading, self.source.geometry)

    @property
    def name(self) -> str:
        """What its images are named after: its file's name without the suffix, and its number of several."""
        place = f"_{self.source.index}" if self.source.file.stacked else ""
        return f"{stem(self.source.path)}{place}"

    def files(self, output: str | Path, names: Sequence[str], images_as: Format | None = None) -> list[Path]:
        """Return where images of these names go, and check all of it: to a folder, or all to one file.

        Raises
        ------
        OptionError
            There is no such format, or it cannot hold these images.
        OutputError
            They cannot be written there.
        """
        target = Output.find(output, [self.source], images_as)
        if not target.is_folder:
            target.writer.check(self._stack(len(names)))
            check_name(target.path)
            check_writable(target.path.parent)
            return [target.path] * len(names)
        target.writer.check(self._stack(1))
        files = [target.path / target.file_name(name, single=True) for name in names]
        for file in files:
            check_name(file)
        check_writable(target.path)
        return files

    def write(self, files: Sequence[Path], images: Sequence[NDArray[np.float32]], made: Sequence[Provenance]) -> None:
        """Write images drawn from it, (H, W[, C]) float32 in [0, 1], to the files that `files` returned.

        Raises
        ------
        OutputError
            They cannot be written.
        """
        make_folder(files[0].parent)
        all_images = list(zip(images, made, strict=True))
        for path in dict.fromkeys(files):
            here = [each for file, each in zip(files, all_images, strict=True) if file == path]
            with require_writer(path).create(path, self._stack(len(here))) as file:
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


@dataclass(frozen=True)
class Slice:
    """One label map of a file, as a file of its own: see `LabelMapFile`."""

    file: LabelMapFile
    index: int
    stacked: bool = False

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def geometry(self) -> Geometry | None:
        """Where the label map lies in the patient."""
        whole = self.file.geometry
        return None if whole is None else whole.of_slice(self.index)

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def read(self, index: int) -> NDArray[Any]:
        """Return it: see `LabelMapFile.read`."""
        return self.file.read(self.index)
