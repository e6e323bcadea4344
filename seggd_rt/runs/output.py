"""Where images go: to one file or a folder, in which format, and apart from everything that is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from seggd_rt.errors import DataError, OptionError, OutputError
from seggd_rt.files import check_output, read_file
from seggd_rt.imaging import WRITERS, Format, ImageWriter, LabelMapFile, Provenance, require_writer, writer_like
from seggd_rt.wording import printable

_LARGEST_OWN = 1 << 30
"""Bytes of a file that a command may have written and that is looked into before it is replaced."""


@dataclass(frozen=True)
class Output:
    """Where images go.

    Attributes
    ----------
    path
        A folder, or the file that is to hold all images.
    writer
        Of that file, or of each image in the folder.
    is_folder
        Which of the two.
    keep_patient
        Whether whom a label map is of may be written into its images' file.
    mark
        Whether a corner of each image says that it is synthetic.
    """

    path: Path
    writer: ImageWriter
    is_folder: bool
    keep_patient: bool = False
    mark: bool = False

    @classmethod
    def find(cls, output: str | Path, sources: Iterable[LabelMapFile], images_as: Format | None) -> Output:
        """Return where images go that are drawn from label map files.

        Raises
        ------
        OptionError
            The name cannot be, no format is known for it, or the label maps are of several and none is said.
        """
        path = Path(output)
        if not is_folder(output):
            writer = require_writer(path)
            if images_as is not None and writer is not WRITERS[images_as]:
                raise OptionError(f"{path} is no file of {images_as}: leave --format out, or name the file so")
            return cls(path, writer, is_folder=False)
        like = {writer_like(file) for file in sources}
        if images_as is None and len(like) > 1:
            raise OptionError("these label maps are of several formats: say with --format what images are written as")
        return cls(path, like.pop() if images_as is None else WRITERS[images_as], is_folder=True)

    def file_name(self, name: str, *, single: bool = False) -> str:
        """Return the file name of an image in the folder; `single` where each is a file though volumes are folders."""
        return f"{name}{self.writer.ending or (self.writer.suffixes[0] if single else '')}"


def grid_file(output: str | Path) -> Path:
    """Return where a grid goes, and check that it can.

    Raises
    ------
    OptionError
        It is no .png.
    OutputError
        It cannot be written, or would replace what somebody else wrote.
    """
    path = Path(output)
    if is_folder(output) or path.suffix.lower() != ".png":
        raise OptionError(f"{output} must end in .png for a grid")
    check_file(path)
    return path


def check_file(path: Path, *inputs: Path) -> None:
    """Refuse, before anything is drawn, a file that cannot be written, or would replace what is not to be replaced.

    Raises
    ------
    OptionError
        It is one of the inputs.
    OutputError
        It cannot be written, or somebody else wrote the file that is there.
    """
    check_output(path)
    if not path.exists():
        return
    if any(each.exists() and each.samefile(path) for each in inputs):
        raise OptionError(f"{path} is an input: give images another place with -o")
    made_before(path, require_writer(path))


def made_before(path: Path, writer: ImageWriter) -> tuple[Provenance, ...]:
    """Return how the images were made that are to be replaced.

    Raises
    ------
    OutputError
        The file carries no such record: seggd-rt did not write it.
    """
    try:
        return writer.made(path)
    except DataError as error:
        raise OutputError(
            f"{path} already exists and was not written by seggd-rt, or is damaged: delete it or choose another output"
        ) from error


def is_folder(output: str | Path) -> bool:
    """Say whether an output is a folder, there or to be made: its name has no suffix, or ends in a slash.

    Raises
    ------
    OptionError
        The name cannot be.
    """
    name, path = os.fspath(output), Path(output)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = printable(str(path))
        raise OptionError(f"the name of {shown} is not Unicode, as --json needs: give another") from error
    if not name:
        raise OptionError("the output has no name: give a file or a folder with -o")
    if name == "-":
        raise OptionError("images cannot go to the standard output, -: give a file or a folder with -o")
    return name.endswith(("/", os.sep)) or path.is_dir() or not path.suffix


def check_apart(output: Path, bundle: Path | None, *inputs: Path | None) -> None:
    """Refuse an output that is an input, or that lies anywhere below the bundle's folder or a folder that is read.

    Every command that writes calls it before any work, for each of its outputs.

    Parameters
    ----------
    output
        A file, or a folder for several.
    bundle
        The bundle's folder; None for a command that reads none.
    inputs
        Each file and folder that is read beside it; None stands for an option that was not given.

    Raises
    ------
    OptionError
        The output is such a place.
    """
    for path in inputs:
        if path is None or not path.exists():
            continue
        if output.exists() and output.samefile(path):
            raise OptionError(f"{output} is an input: choose another output")
        if path.is_dir() and _lies_in(output, path):
            raise OptionError(f"{output} lies among inputs ({path}): choose another output")
    if bundle is not None and bundle.is_dir() and _lies_in(output, bundle):
        raise OptionError(f"{output} lies in the bundle's folder ({bundle}): choose another output")


def _lies_in(path: Path, folder: Path) -> bool:
    """Say whether a path is a folder or lies anywhere below it, also by way of links."""
    real = Path(os.path.realpath(path))
    return any(place.exists() and place.samefile(folder) for place in (real, *real.parents))


def check_own(path: Path, is_own: Callable[[bytes], bool], *, force: bool = False) -> None:
    """Refuse to replace a file that the same command did not write, unless `force` says that it may go.

    Parameters
    ----------
    path
        The file, which may be missing.
    is_own
        Says of a file's bytes whether the command wrote them.
    force
        Whether another program's file may be replaced.

    Raises
    ------
    OutputError
        It is another program's, or cannot be read.
    """
    if force or not path.exists():
        return
    try:
        own = is_own(read_file(path, _LARGEST_OWN))
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error}): choose another output") from error
    if not own:
        raise OutputError(
            f"{path} exists and this command did not write it: delete it, choose another output, or replace it by "
            "--force"
        )
