"""The native checkpoint: one `.pt` with a network's weights and all that is needed to use them, and no code.

    {"format": "seggd-checkpoint/1",
     "config": CheckpointConfig as plain dicts, lists, strings and numbers,
     "weights": {name: tensor} or None,
     "ema": {name: tensor} or None}             the moving average of the weights, which is what samples best

`torch.load(weights_only=True)` opens it, so loading one runs nothing. The optimiser is elsewhere, in the
trainer's `resume.pt`. Files are replaced whole: a reader never meets half of one.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import torch

from seggd_rt.bundle import MAX_PIXELS
from seggd_rt.diffusion import LabelClass, MaskEncoding, NoiseSchedule, check_classes, mask_channels
from seggd_rt.errors import CheckpointError, OutputError
from seggd_rt.files import NewFile, make_folder, open_regular

FORMAT = "seggd-checkpoint/1"
_FAMILY = FORMAT.partition("/")[0]

_LOAD_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError,
    AssertionError, OverflowError, struct.error,
)  # fmt: skip
"""What torch.load raised over thousands of truncated and altered files."""
_UNSAFE = re.compile(r"GLOBAL ([\w.]+)")
"""The name that the weights-only unpickler refused to import."""

_STRANGE: Mapping[str, Callable[[torch.Tensor], bool]] = {
    "nested": lambda tensor: tensor.is_nested,
    "sparse": lambda tensor: tensor.layout != torch.strided,
    "quantized": lambda tensor: tensor.is_quantized,
    "meta": lambda tensor: tensor.device.type != "cpu",
}
"""Tensors that are no plain arrays in memory."""
_DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)
_MOST_SHARED = 4
"""How often the numbers of a file may be in its tensors: some are tied."""

StateDict = dict[str, torch.Tensor]


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a checkpoint comes from: data, licence, and how far it was trained."""

    training_data: str | None = None
    licence: str | None = None
    step: int = 0
    images_seen: int = 0
    seed: int | None = None
    command: str | None = None
    val_loss: float | None = None


class CheckpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network was trained as: everything an export needs to know.

    `unet` is the configuration of diffusers' UNet2DModel; its channels and sample size agree with the other fields.
    """

    unet: dict[str, Any]
    image_channels: int
    height: int
    width: int
    classes: tuple[LabelClass, ...]
    encoding: MaskEncoding
    schedule: NoiseSchedule
    ablation: bool
    empty_subset: float = 0.0
    intensity_range: tuple[float, float] | None = None
    """The values of the data's files that became black and white, where the run said so."""
    provenance: Provenance = msgspec.field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Check every field's range, and that the network's channels are those of image and mask."""
        if min(self.image_channels, self.height, self.width) < 1:
            raise ValueError(f"image is {self.image_channels} x {self.height} x {self.width}; all must be positive")
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(f"image is {self.height} x {self.width}; it must have at most {MAX_PIXELS} pixels")
        if not 0 <= self.empty_subset <= 1:
            raise ValueError(f"empty_subset is {self.empty_subset}; it must lie in [0, 1]")
        if self.intensity_range is not None and not self.intensity_range[0] < self.intensity_range[1]:
            raise ValueError(f"intensity_range is {self.intensity_range}; the first must be less than the second")
        check_classes(self.classes)
        channels = self.image_channels + mask_channels(self.encoding, len(self.classes))
        if (self.unet.get("in_channels"), self.unet.get("out_channels")) != (channels, self.image_channels):
            raise ValueError(
                f"unet has {self.unet.get('in_channels')} channels in and {self.unet.get('out_channels')} out; "
                f"image and mask need {channels} and {self.image_channels}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A network's configuration with its weights, their moving average, or both."""

    config: CheckpointConfig
    weights: StateDict | None
    ema: StateDict | None

    def best_weights(self) -> StateDict:
        """Return the moving average where there is one, else the weights, as float32.

        Raises
        ------
        CheckpointError
            The checkpoint holds neither.
        """
        state = self.ema if self.ema is not None else self.weights
        if state is None:
            raise CheckpointError("the checkpoint holds no weights: both 'weights' and 'ema' are empty")
        return {name: _cast(tensor, torch.float32) for name, tensor in state.items()}

    def slim(self, *, half: bool = True) -> Checkpoint:
        """Return a checkpoint of the best weights alone, in float16 unless `half` is off.

        Raises
        ------
        CheckpointError
            A weight is beyond float16's range.
        """
        state = self.best_weights()
        if half:
            state = {name: _cast(tensor, torch.float16) for name, tensor in state.items()}
            lost = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
            if lost:
                raise CheckpointError(f"{lost[0]} holds values that float16 cannot: use --full")
        is_ema = self.ema is not None
        return replace(self, weights=None if is_ema else state, ema=state if is_ema else None)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        config = msgspec.to_builtins(self.config)
        save_atomically({"format": FORMAT, "config": config, "weights": self.weights, "ema": self.ema}, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint that `save` wrote, on the CPU, in the precision it has there.

        Raises
        ------
        CheckpointError
            The file is missing or damaged, holds more than weights, or is of another form or a newer one.
        """
        content = load_weights_only(path)
        version = content.get("format") if isinstance(content, Mapping) else None
        if not isinstance(version, str) or version.partition("/")[0] != _FAMILY:
            raise CheckpointError(f"{path} is no seggd-rt checkpoint: it does not say format '{FORMAT}'")
        if version != FORMAT:
            raise CheckpointError(f"{path} has format '{version}'; this version reads '{FORMAT}': update seggd-rt")
        unknown = sorted(map(str, set(content) - {"format", "config", "weights", "ema"}))
        if unknown:
            raise CheckpointError(f"{path} has an unknown key '{unknown[0]}'")
        try:
            # By way of JSON, which has plain values only: a tensor among the settings is refused here.
            config = msgspec.json.decode(msgspec.json.encode(content.get("config")), type=CheckpointConfig)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise CheckpointError(f"{path} has a config that cannot be read: {error}") from error
        states = {key: _check_state(path, key, content.get(key)) for key in ("weights", "ema")}
        if states["weights"] is None and states["ema"] is None:
            raise CheckpointError(f"{path} holds no weights: both 'weights' and 'ema' are empty")
        return cls(config=config, **states)


def load_weights_only(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values only, onto the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, no regular file, damaged, needs code to be run, or holds tensors that are not plain arrays.
    """
    try:
        with warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")  # about the pickle's protocol: whether it loads is what counts
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): give a readable file") from error
    except _LOAD_ERRORS as error:
        if found := _UNSAFE.search(str(error)):
            raise CheckpointError(
                f"{path} holds more than weights, '{found[1]}', which could run code: it was not loaded. "
                "Save a state dict of tensors instead"
            ) from error
        raise CheckpointError(f"{path} is damaged, or no file of torch.save") from error
    check_plain(path, content)
    return content


def check_plain(path: Path, content: object) -> None:
    """Refuse tensors that are not plain arrays of numbers, or that state far more numbers than the file holds.

    Raises
    ------
    CheckpointError
        A tensor, however deep in lists and tables, is sparse, nested, quantized, complex or of the meta device, is of a
        type that does not become float32, or repeats what is stored so that copying it would exhaust memory.
    """
    stated, stored = 0, dict[int, int]()
    for tensor in _tensors(content):
        kind = next((kind for kind, is_so in _STRANGE.items() if is_so(tensor)), None)
        if kind is None and tensor.dtype not in _DTYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
        if kind is not None:
            raise CheckpointError(f"{path} holds a {kind} tensor: save plain tensors of float32 or float16 on the CPU")
        storage = tensor.untyped_storage()
        stated += tensor.numel() * tensor.element_size()
        stored[storage.data_ptr()] = storage.nbytes()
    if stated > _MOST_SHARED * sum(stored.values()):
        raise CheckpointError(
            f"{path} states more tensor data than it stores ({stated} bytes, not {sum(stored.values())}): "
            "call .contiguous() on the tensors and save them again"
        )


def _tensors(content: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in a value of lists and tables, each of which may hold itself."""
    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value.values() if isinstance(value, Mapping) else value)


def save_atomically(content: object, path: Path) -> None:
    """Write a file of `torch.save`, flushed to the disk, that appears whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left behind.
    """
    make_folder(path.parent)
    try:
        with NewFile(path, sync=True) as file:
            torch.save(content, cast("IO[bytes]", file))  # it writes and flushes, no more
    except OutputError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's writer, when the disk is full
        reason = getattr(error, "strerror", None) or "torch could not write it"
        raise OutputError(f"{path} cannot be written whole ({reason}): is the disk full?") from error


def _check_state(path: Path, key: str, state: object) -> StateDict | None:
    if state is None:
        return None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise CheckpointError(f"{path} has '{key}' that is no table of tensors by name")
    return dict(state)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
