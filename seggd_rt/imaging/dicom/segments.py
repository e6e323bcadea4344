"""Which class each segment of a segmentation is: as it was said, or by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from seggd_rt.errors import LabelMapError, OptionError
from seggd_rt.imaging.contract import Reading
from seggd_rt.wording import either

BACKGROUND = "background"
"""What a segment that is no class is mapped to, whatever the bundle calls its background."""


class UnusedMapWarning(UserWarning):
    """A map of segments names some that no file has."""


@dataclass(frozen=True)
class Segment:
    """A segment: its number, what it is labelled, and what its code of a property type means."""

    number: int
    label: str
    meaning: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """What it is called."""
        return tuple(name for name in (self.label, self.meaning) if name)

    @property
    def names(self) -> tuple[str, ...]:
        """Its names as they are compared."""
        return tuple(map(_fold, self.texts))


def match_segments(segments: Sequence[Segment], reading: Reading, where: str) -> dict[int, int]:
    """Return each segment's class id by the segment's number.

    A segment is what the reading's map says of its label, or of what its code means, else the class of such a name;
    case does not matter. Where no classes are known, segment numbers are class ids.

    Raises
    ------
    LabelMapError
        A segment is no class; `where` names the file.
    OptionError
        The map names a class that is not there.
    """
    if not reading.classes:
        return {segment.number: segment.number for segment in segments}
    ids = {BACKGROUND: 0, **{_fold(c.name): c.id for c in reading.classes}}
    said = {_fold(name): _class_id(name, target, ids, reading) for name, target in reading.segments.items()}
    found, lost = dict[int, int](), list[str]()
    for segment in segments:
        known = [table[name] for table in (said, ids) for name in segment.names if name in table]
        if known:
            found[segment.number] = known[0]
        else:
            lost.append(segment.label)
    if lost:
        raise LabelMapError(
            f"{where} has {either(len(segments), 'the segment', 'the segments')} {_listed(s.label for s in segments)}, "
            f"and {_listed(lost)} {either(len(lost), 'is', 'are')} none of the classes "
            f'{_listed(c.name for c in reading.classes[1:])}: say which with --map "{lost[0]}=CLASS", or leave it out '
            f'with --map "{lost[0]}={BACKGROUND}"'
        )
    return found


def check_said(said: Mapping[str, str], files: Iterable[object]) -> None:
    """Warn of names in a map that no file has, as one that is written wrongly; `files` are label map files."""
    if not said:
        return
    known = {_fold(name): name for file in files for segment in getattr(file, "named", ()) for name in segment.texts}
    lost = [name for name in said if _fold(name) not in known]
    if lost:
        there = f"there are {_listed(known.values())}" if known else "no label map is a DICOM segmentation"
        verb = either(len(lost), "is", "are")
        warnings.warn(f"--map has {_listed(lost)}, which {verb} no segment: {there}", UnusedMapWarning, stacklevel=3)


def parse_map(texts: Iterable[str]) -> dict[str, str]:
    """Read a map of segments to classes, "Liver=liver,Left lung=lungs"; a segment's name may have commas.

    Raises
    ------
    OptionError
        A part of it is no SEGMENT=CLASS, or says another class of a segment than one before.
    """
    found, said = dict[str, str](), dict[str, str]()
    for text in texts:
        name = ""
        for part in text.split(","):
            name = f"{name},{part}" if name else part
            segment, equals, target = name.rpartition("=")
            if not equals:
                continue
            segment, target = segment.strip(), target.strip()
            if not segment or not target or said.setdefault(_fold(segment), _fold(target)) != _fold(target):
                raise OptionError(f"--map has '{name.strip()}'; each segment's class is said once, as SEGMENT=CLASS")
            found[segment], name = target, ""
        if name.strip():
            raise OptionError(f"--map has '{name.strip()}'; it must be SEGMENT=CLASS, as in \"Liver=liver\"")
    return found


def _class_id(name: str, target: str, ids: Mapping[str, int], reading: Reading) -> int:
    if _fold(target) not in ids:
        raise OptionError(
            f"segment '{name}' is mapped to '{target}', which is no class: there are "
            f"{_listed(c.name for c in reading.classes[1:])}, and {BACKGROUND}"
        )
    return ids[_fold(target)]


def _fold(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
