"""What can be measured, each kind a struct; and `OUT.json`, which holds them: schema `seggd-gpu/1`."""

from __future__ import annotations

import msgspec

from seggd_rt.engine import Spread

SCHEMA = "seggd-gpu/1"


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """What could not be measured: the error's class, its message, and the line it came from."""

    error: str
    message: str
    where: str = ""


class Absent(msgspec.Struct, frozen=True, kw_only=True, tag="absent"):
    """What this machine lacks."""

    reason: str


class Suite(msgspec.Struct, frozen=True, kw_only=True, tag="suite"):
    """How a file of tests ended: counts, the failures' first lines, and why tests were skipped, with how many."""

    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...] = ()
    skips: dict[str, int] = {}


class Sanitized(msgspec.Struct, frozen=True, kw_only=True, tag="sanitized"):
    """What a tool of compute-sanitizer found in the kernels."""

    errors: int
    summary: tuple[str, ...]


class Rate(msgspec.Struct, frozen=True, kw_only=True, tag="rate"):
    """What the GPU does in a second at its best, measured: FLOP of a matrix product, or bytes of a copy."""

    per_second: float
    unit: str
    of: str


class Cost(msgspec.Struct, frozen=True, kw_only=True, tag="cost"):
    """What one network call for one image takes, counted: products and sums, weights, activations."""

    flop: float
    weights: int
    activations: int
    """Outputs of all layers, each written and read once."""


class Exported(msgspec.Struct, frozen=True, kw_only=True, tag="exported"):
    """A bundle that was made: its hash, and its graphs' precisions."""

    sha256: str
    precisions: tuple[str, ...]


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """How long a batch of images of a number of steps takes.

    Attributes
    ----------
    steps
        Of the sampler.
    image
        From label maps to images in host memory, by the host's clock.
    device
        The same work on the device alone, by its events; None where it cannot be enqueued without waiting.
    host
        What the host does for it while it does not wait, None where that is not known.
    """

    steps: int
    image: Spread
    device: Spread | None
    host: Spread | None


class Timed(msgspec.Struct, frozen=True, kw_only=True, tag="timed"):
    """A contender's figures in one group.

    Attributes
    ----------
    engine, version, precision, notes
        What really ran.
    step
        One network call, bare, by the device's events; captured in a graph where it may be.
    images
        One entry for each number of steps.
    images_per_second
        At the first of them.
    memory_mib
        What the device's used memory grew by from before it was made until after its first images, once what PyTorch
        holds back for later was given back.
    peak_mib
        The same before it is given back: the most that drawing took.
    make_s, first_s
        Making it (loading, building, checking), and its first image after that (compiling).
    psnr_db
        Of its image against PyTorch's in fp32 from the same noise; None where it is equal, or was not compared.
    """

    engine: str
    version: str
    precision: str
    notes: tuple[str, ...]
    step: Spread
    images: tuple[Image, ...]
    images_per_second: float
    memory_mib: float
    make_s: float
    first_s: float
    psnr_db: float | None
    peak_mib: float | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True, tag="group"):
    """Contenders that were measured in turn: A B C A B C."""

    subject: str
    precision: str
    batch: int
    rounds: int
    contenders: tuple[str, ...]
    trained: bool
    """Whether the weights are those of a trained network: of random ones, images amplify rounding."""
    absent: dict[str, str] = {}
    """Engines that cannot run here, and why."""
    finished: bool = True
    """Whether it came to its end; else its contenders' figures are of one turn, or of fewer rounds than asked for."""
    state: str = ""
    """What the GPU says of itself at the end: clock, power, temperature, and what throttles it."""


class Trained(msgspec.Struct, frozen=True, kw_only=True, tag="trained"):
    """How far the demo model was trained, and the slim checkpoint that came out."""

    checkpoint: str
    megabytes: float
    step: int
    images_seen: int
    minutes: float
    val_loss: float | None


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, or a kernel: how often it ran in a step, and how long on the device."""

    name: str
    calls: float
    device_ms: float


class Profile(msgspec.Struct, frozen=True, kw_only=True, tag="profile"):
    """Where a step's time goes on the device; the costliest first."""

    step_ms: float
    layers: tuple[Layer, ...]
    kernels: tuple[Layer, ...]


Result = (
    Failed | Absent | Suite | Sanitized | Rate | Cost | Exported | Timed | Group | Trained | Profile
)  # fmt: skip


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, the versions and the commit that a run measured."""

    device: str
    compute_capability: str
    memory_mib: int
    driver: str
    cpu: str
    cores: int
    platform: str
    versions: dict[str, str]
    commit: str
    changed: bool
    """Whether the checkout differed from its commit."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the script."""

    started: str
    command: str
    host: Host


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One thing measured: part and name are its key; `run` is the index of the run that did it."""

    part: str
    name: str
    run: int
    seconds: float
    result: Result


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """`OUT.json`."""

    schema: str = SCHEMA
    runs: tuple[Run, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    in_hand: tuple[str, str] | None = None
    """Part and name of what is being measured: where a process died, it died of this."""
