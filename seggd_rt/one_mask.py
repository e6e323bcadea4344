"""The files of a command that draws from one label map: that map, what it must not write over, and its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seggd_rt.atomic import check_name, check_writable, make_folder
from seggd_rt.errors import DataError, OptionError
from seggd_rt.imaging.contract import PLAIN, Format, ImageStack, LabelMapFile, Reading
from seggd_rt.imaging.folder import LabelMapSet
from seggd_rt.imaging.formats import WRITERS, require_writer, stem, writer_like
from seggd_rt.imaging.geometry import Geometry
from seggd_rt.imaging.real import choose, read_real
from seggd_rt.manifest import Manifest
from seggd_rt.mask_checks import check_label_maps, checked, fitted
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

    def write(self, path: Path, images: Sequence[NDArray[np.float32]], made: Sequence[Provenance]) -> None:
        """Write images drawn from it, (H, W[, C]) float32 in [0, 1], to one file in the format of its suffix.

        Raises
        ------
        OptionError
            There is no such format, or it cannot hold these images.
        OutputError
            It cannot be written.
        """
        image = self.manifest.image
        stack = ImageStack(
            len(images),
            image.height,
            image.width,
            image.channels,
            manifest=self.manifest,
            source=self.source,
            fit=self.reading.fit,
        )
        writer = require_writer(path)
        writer.check(stack)
        make_folder(path.parent)
        with writer.create(path, stack) as file:
            for pixels, each in zip(images, made, strict=True):
                file.append(pixels, each)

    def write_each(
        self,
        folder: Path,
        images: Mapping[str, NDArray[np.float32]],
        made: Sequence[Provenance],
        images_as: Format | None = None,
    ) -> list[Path]:
        """Write images, by the names of their files without suffix, to a folder, and return the files.

        They are in the label map's own format, PNG where that is a picture, unless another is said. Raises as `write`
        does.
        """
        writer = writer_like(self.source) if images_as is None else WRITERS[images_as]
        paths = [folder / f"{name}{writer.ending or writer.suffixes[0]}" for name in images]
        for path, image, each in zip(paths, images.values(), made, strict=True):
            self.write(path, [image], [each])
        return paths


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


def is_folder(output: Path) -> bool:
    """Say whether an output is a folder, there or to be made: it has no suffix."""
    return output.is_dir() or not output.suffix


def check_output(output: Path, *inputs: Path) -> None:
    """Refuse, before anything is drawn, an output that is read or cannot be written.

    Raises
    ------
    OptionError
        The output is one of the inputs.
    OutputError
        It cannot be written.
    """
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise OptionError(f"{output} is an input: give another file with -o")
    check_name(output)
    check_writable(output.parent)
