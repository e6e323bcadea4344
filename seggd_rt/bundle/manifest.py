"""`bundle.json`: what a bundle states of itself, as records that are checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from seggd_rt.diffusion import LabelClass, MaskEncoding, NoiseSchedule, Precision, Sampler, check_classes, mask_channels
from seggd_rt.errors import BundleVersionError, ManifestError
from seggd_rt.files import MAX_MANIFEST_VALUES, check_nesting, count_values, decode

SCHEMA = "seggd-bundle/1"
MANIFEST = "bundle.json"
SIGNATURE = "bundle.sig"
"""The file of the manifest's signature, which may lie beside it: see `seggd_rt.bundle.signing`."""
MAX_MANIFEST_BYTES = 16 << 20
MAX_PIXELS = 1 << 26
"""Largest height times width a manifest may state: a bound on what a bundle can make a reader allocate."""

MEANING_KEY = "seggd-meaning"
"""Where `check.safetensors` keeps, in its metadata, the digest of what the manifest meant at export."""

SAMPLER_EXTENSION = "sampler"
"""The key of `Manifest.extensions` that holds a `SamplerGraph`."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEWER_SCHEMA = re.compile(r"seggd-bundle/([2-9]|[1-9][0-9]+)")


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and unknown keys are refused."""


class FileRef(_Record, frozen=True):
    """A file of the bundle: its name in the folder, SHA-256 and size in bytes."""

    path: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        """Refuse paths that leave the folder, and hashes that are none."""
        if not _FILE_NAME.fullmatch(self.path) or self.path.endswith("."):
            raise ValueError(f"path is {self.path!r}; it must be a plain file name inside the bundle's folder")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 of {self.path} is {self.sha256!r}; it must be 64 lowercase hexadecimal digits")
        if self.size < 0:
            raise ValueError(f"size of {self.path} is {self.size}; it must not be negative")


class ImageSpec(_Record, frozen=True):
    """What the network draws: (channels, height, width), values in [-1, 1] mapped to [0, 1]."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        """Check every field's range."""
        if not 1 <= self.channels <= 64:
            raise ValueError(f"image channels is {self.channels}; it must lie in [1, 64]")
        if self.height < 1 or self.width < 1 or self.height * self.width > MAX_PIXELS:
            raise ValueError(f"image size is {self.height}x{self.width}; it must have 1 to {MAX_PIXELS} pixels")


class MaskSpec(_Record, frozen=True):
    """How masks enter the network, and which of them it saw in training."""

    encoding: MaskEncoding
    trained_with_ablation: bool | None
    """Whether classes were left out at random; null where the checkpoint does not tell."""
    trained_with_empty_mask: bool | None


class Parity(_Record, frozen=True):
    """How a graph compares with PyTorch in fp32 along a recorded run."""

    states: int
    rel_l2: float
    """Largest |d|_2 / |o|_2 over the states."""
    rel_max: float
    """Largest max|d| / max|o| over the states."""
    limit: float
    image_psnr_db: float | None
    """PSNR of the whole image; null where it equals PyTorch's to the bit."""


class Graph(_Record, frozen=True):
    """One ONNX graph of the network, the graph's own file first, then its external data."""

    precision: Precision
    files: tuple[FileRef, ...]
    opset: int
    parity: Parity

    def __post_init__(self) -> None:
        """Check that there is a file."""
        if not self.files:
            raise ValueError(f"the {self.precision} graph names no file")


class SamplerGraph(_Record, frozen=True):
    """`sampler.onnx`, the whole sampling loop as one graph: `extensions.sampler` of the manifest."""

    files: tuple[FileRef, ...]
    """Its own first, then its external data, which is the fp32 graph's."""
    opset: int
    sampler: Sampler
    steps: int
    max_error: float
    """Largest |d| of its image, in [0, 1], against the runtime's with the fp32 graph."""
    limit: float

    def __post_init__(self) -> None:
        """Check that there is a file."""
        if not self.files:
            raise ValueError("it names no file")


class SegmenterParity(_Record, frozen=True):
    """How a segmenter's graph compares with PyTorch in fp32 on images made for it."""

    images: int
    rel_l2: float
    """|d|_2 / |o|_2 of its scores."""
    rel_max: float
    """max|d| / max|o| of its scores."""
    limit: float
    labels_changed: float
    """Part, in [0, 1], of the pixels to which it gives another class."""
    labels_limit: float


class RealDice(_Record, frozen=True):
    """The Dice that a segmenter reaches on real images it was not trained on, against their own label maps."""

    data: str
    """Which images: file and split."""
    images: int
    patients: int | None
    per_patient: float
    """Mean over the classes of their means over patients, as `seggd-rt evaluate` states it."""
    per_image: float
    """Mean over images of the mean over the classes that an image's label map shows."""
    per_image_low: float
    """What 95 % of the images reach: a `--min-dice` far above it also rejects real images."""

    def __post_init__(self) -> None:
        """Check every field's range."""
        for name in ("per_patient", "per_image", "per_image_low"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a Dice lies in [0, 1]")


class ClassIntensity(_Record, frozen=True):
    """Between what bounds, in [0, 1], the median intensity of a class's pixels lies in training images."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the order."""
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"intensities of {self.name} are {self.low} to {self.high}; both must rise in [0, 1]")


class SegmenterGraph(_Record, frozen=True):
    """`segmenter.onnx`, which finds the classes in images: `image` to `scores`.

    `image` is (batch, channels, H, W) float32 in [0, 1], of the network's size; `scores` is (batch, classes, H, W)
    float32, of which a pixel's largest is its class.
    """

    files: tuple[FileRef, ...]
    """Its own first, then its external data."""
    opset: int
    classes: tuple[str, ...]
    """In the order of its output: the bundle's own."""
    parity: SegmenterParity
    percentiles: tuple[float, float]
    """Of the training images' medians: what the bounds in `intensities` are, in [0, 100]."""
    intensities: tuple[ClassIntensity, ...]
    """Of the foreground classes that the training images show."""
    real: RealDice | None = None
    """None where it is not known."""

    def __post_init__(self) -> None:
        """Check that there is a file, and what fields say of each other."""
        if not self.files:
            raise ValueError("the segmenter names no file")
        if not 0 <= self.percentiles[0] <= self.percentiles[1] <= 100:
            raise ValueError(f"percentiles are {self.percentiles}; they must rise in [0, 100]")
        names = [each.name for each in self.intensities]
        if len(set(names)) != len(names) or not set(names) <= set(self.classes[1:]):
            raise ValueError(f"intensities are of {names}; each must be of another foreground class")


class Check(_Record, frozen=True):
    """The golden run: a DDIM run in PyTorch fp32 whose states and image lie in `file`."""

    file: FileRef
    steps: int


class Defaults(_Record, frozen=True):
    """What a generator does unless told otherwise."""

    sampler: Sampler
    steps: int


class Provenance(_Record, frozen=True):
    """Where the network comes from."""

    checkpoint_sha256: str
    checkpoint_format: str
    versions: dict[str, str]
    parameters: int
    training_data: str | None = None
    licence: str | None = None
    intended_use: str | None = None
    training: dict[str, Any] | None = None


class Dicom(_Record, frozen=True):
    """What DICOM calls the classes: names of a segmentation's segments, and the classes they are."""

    segments: dict[str, str] = {}

    def stray(self, classes: Sequence[LabelClass]) -> tuple[str, str] | None:
        """Return the first segment that is neither a class nor background, with what it is said to be; None without."""
        known = {"background", *(c.name.casefold() for c in classes)}
        return next((said for said in self.segments.items() if said[1].casefold() not in known), None)


class Meaning(_Record, frozen=True):
    """What of a manifest decides how masks become images: were it edited, images would be wrong without an error."""

    image: ImageSpec
    classes: tuple[LabelClass, ...]
    mask: MaskSpec
    schedule: NoiseSchedule
    defaults: Defaults
    check_steps: int
    intensity_range: tuple[float, float] | None = None

    def metadata(self) -> dict[str, str]:
        """Return the metadata of `check.safetensors`: JSON whose values every runtime compares with the manifest."""
        return {MEANING_KEY: msgspec.json.encode(self, order="deterministic").decode()}


class Manifest(_Record, frozen=True):
    """Everything `bundle.json` states."""

    schema: str
    name: str
    image: ImageSpec
    classes: tuple[LabelClass, ...]
    mask: MaskSpec
    schedule: NoiseSchedule
    graphs: tuple[Graph, ...]
    check: Check
    defaults: Defaults
    provenance: Provenance
    modality: str | None = None
    spacing_mm: tuple[float, float] | None = None
    """Between rows, then between columns, as DICOM's Pixel Spacing."""
    intensity_range: tuple[float, float] | None = None
    segmenter: SegmenterGraph | None = None
    dicom: Dicom | None = None
    evaluation: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check what fields say of each other."""
        check_classes(self.classes)
        for free in (self.provenance.training, self.dicom, self.evaluation, self.extensions):
            check_nesting(free)
        precisions = [g.precision for g in self.graphs]
        if not precisions or len(set(precisions)) != len(precisions):
            raise ValueError(f"graphs have precisions {precisions}; there must be at least one, each once")
        names = [ref.path for ref in self.files]
        if len(set(names)) != len(names) or {MANIFEST, SIGNATURE} & set(names):
            raise ValueError(f"files {sorted(names)} must differ from each other, from {MANIFEST} and from {SIGNATURE}")
        if self.spacing_mm is not None and not min(self.spacing_mm) > 0:
            raise ValueError(f"spacing_mm is {self.spacing_mm}; both must be positive")
        if self.intensity_range is not None and not self.intensity_range[0] < self.intensity_range[1]:
            raise ValueError(f"intensity_range is {self.intensity_range}; the first must be less than the second")
        own = tuple(c.name for c in self.classes)
        if self.segmenter is not None and self.segmenter.classes != own:
            raise ValueError(f"segmenter.classes are {self.segmenter.classes}; they must be the bundle's, {own}")
        if self.dicom is not None and (stray := self.dicom.stray(self.classes)) is not None:
            raise ValueError(f"dicom.segments has '{stray[1]}' for '{stray[0]}'; it must be a class, or background")
        for owner, steps in (("check", self.check.steps), ("defaults", self.defaults.steps)):
            if not 1 <= steps <= self.schedule.train_steps:
                raise ValueError(f"{owner}.steps is {steps}; it must lie in [1, {self.schedule.train_steps}]")

    @property
    def sampler_graph(self) -> SamplerGraph | None:
        """The sampling loop as one graph, where the export made it."""
        stated = (self.extensions or {}).get(SAMPLER_EXTENSION)
        try:
            return None if stated is None else msgspec.convert(stated, SamplerGraph)
        except msgspec.ValidationError as error:
            raise ValueError(f"extensions.{SAMPLER_EXTENSION}: {error}") from error

    @property
    def files(self) -> tuple[FileRef, ...]:
        """Every file of the bundle but `bundle.json`."""
        segmenter = () if self.segmenter is None else self.segmenter.files
        refs = (*(ref for graph in self.graphs for ref in graph.files), self.check.file, *segmenter)
        loop = () if self.sampler_graph is None else self.sampler_graph.files
        return (*refs, *(ref for ref in loop if ref not in refs))

    @property
    def meaning(self) -> Meaning:
        """What of the manifest decides how masks become images."""
        return Meaning(
            image=self.image,
            classes=self.classes,
            mask=self.mask,
            schedule=self.schedule,
            defaults=self.defaults,
            check_steps=self.check.steps,
            intensity_range=self.intensity_range,
        )

    @property
    def mask_channels(self) -> int:
        """How many mask channels the network takes."""
        return mask_channels(self.mask.encoding, len(self.classes))

    def to_json(self) -> bytes:
        """Return `bundle.json`'s bytes: the same for the same manifest."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def parse_manifest(data: bytes, where: str = MANIFEST) -> Manifest:
    """Read a manifest; `where` names it in errors.

    Raises
    ------
    BundleVersionError
        It follows a newer schema.
    ManifestError
        It is not JSON, has an unknown key, lacks one, or a value is outside its range.
    """
    try:
        schema = decode(data, _Schema).schema
        if schema != SCHEMA:
            _refuse_schema(schema, where)
        if count_values(msgspec.json.decode(data)) > MAX_MANIFEST_VALUES:
            raise ManifestError(
                f"{where} has more than {MAX_MANIFEST_VALUES:,} values: copy or export the bundle again"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{where} cannot be read ({error}): copy or export the bundle again") from error


class _Schema(msgspec.Struct, frozen=True):
    schema: str


def _refuse_schema(schema: str, where: str) -> None:
    if _NEWER_SCHEMA.fullmatch(schema):
        raise BundleVersionError(
            f"{where} follows schema {schema}; this seggd-rt reads {SCHEMA}: upgrade it (pip install -U seggd-rt)"
        )
    raise ManifestError(f"{where}: schema is {schema!r}; it must be {SCHEMA!r}")
