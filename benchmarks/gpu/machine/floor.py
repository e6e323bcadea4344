"""The floor: nothing is faster than its products at the measured matrix rate, or its bytes at the measured copy rate.

Products and sums are counted by PyTorch's FLOP counter, attention included. Bytes are counted plainly: every weight
read once a call, every layer's output written once and read once. Fusion may save some of the latter.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.contenders.subjects import SUBJECTS, Subject, read_network
from benchmarks.gpu.machine.device import DeviceUnderTest
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Cost, Rate
from benchmarks.gpu.run import Context, Part, Piece
from benchmarks.torch_network import DTYPES, allow_tf32
from seggd_rt.diffusion import Precision

PART = "floor"
COPY = "copy"
_SIZE = 8192
"""Rows and columns of the matrices: large enough to fill any GPU."""
_REPEATS = 10


@dataclass(frozen=True)
class Floor:
    """The least a network call can take, and which of the two bounds it is."""

    flop: float
    bytes: float
    flop_ms: float
    bytes_ms: float

    @property
    def ms(self) -> float:
        """The larger of the two."""
        return max(self.flop_ms, self.bytes_ms)

    def __str__(self) -> str:
        """State both bounds."""
        return (
            f"floor {self.ms:.3f} ms ({self.flop / 1e9:,.1f} GFLOP in {self.flop_ms:.3f} ms, "
            f"{self.bytes / 1e6:,.0f} MB in {self.bytes_ms:.3f} ms)"
        )


def floor_of(record: Record, subject: str, precision: Precision, batch: int) -> Floor | None:
    """Return a network call's floor from what was measured, or None where something of it was not."""
    cost, copy = record.find(PART, f"cost {subject}"), record.find(PART, COPY)
    products = record.find(PART, f"matrix {precision}")
    if not (isinstance(cost, Cost) and isinstance(copy, Rate) and isinstance(products, Rate)):
        return None
    flop = cost.flop * batch
    size = DTYPES[precision].itemsize * (cost.weights + 2.0 * cost.activations * batch)
    return Floor(flop, size, 1e3 * flop / products.per_second, 1e3 * size / copy.per_second)


def _pieces(context: Context) -> Iterator[Piece]:
    yield Piece(COPY, lambda: copy_rate(context.device))
    for precision in Precision:
        yield Piece(f"matrix {precision}", lambda precision=precision: matrix_rate(context.device, precision))  # type: ignore[misc]
    for subject in SUBJECTS:
        yield Piece(f"cost {subject.name}", lambda subject=subject: cost_of(subject))  # type: ignore[misc]


def matrix_rate(device: DeviceUnderTest, precision: Precision, size: int = _SIZE) -> Rate:
    """Measure a square matrix product on random values, TF32 off."""
    allow_tf32(False)
    left, right = (torch.randn(size, size, device=device.name, dtype=DTYPES[precision]) for _ in range(2))
    seconds = _median_seconds(lambda: torch.mm(left, right), device)
    return Rate(per_second=2.0 * size**3 / seconds, unit="FLOP", of=f"{size}x{size}x{size} {precision} product")


def copy_rate(device: DeviceUnderTest, size: int = 1 << 31) -> Rate:
    """Measure a copy within the device, counting bytes read and bytes written."""
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    seconds = _median_seconds(lambda: target.copy_(source), device)
    return Rate(per_second=2.0 * size / seconds, unit="byte", of=f"copy of {size >> 20} MiB")


def cost_of(subject: Subject) -> Cost:
    """Count what one call for one image takes, on shapes alone."""
    return count_cost(read_network(subject).build())


def count_cost(unet: nn.Module) -> Cost:
    """Count a UNet2DModel's products, weights and activations for one image; it is moved to the meta device."""
    unet = unet.to("meta").eval()
    config = getattr(unet, "config")  # noqa: B009 - diffusers sets it dynamically
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    activations = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal activations
        if isinstance(output, Tensor):
            activations += output.numel()

    hooks = [module.register_forward_hook(count) for module in unet.modules() if not [*module.children()]]
    sample = torch.empty(1, config.in_channels, height, width, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        unet(sample, torch.empty(1, device="meta"))
    for hook in hooks:
        hook.remove()
    weights = sum(parameter.numel() for parameter in unet.parameters())
    return Cost(flop=float(counter.get_total_flops()), weights=weights, activations=activations)


def _median_seconds(work: Callable[[], object], device: DeviceUnderTest) -> float:
    for _ in range(3):
        device.timed(work)
    return statistics.median(device.timed(work).device_s for _ in range(_REPEATS))


FLOOR = Part(PART, _pieces)
