"""The targets, and what was found of each: met, missed, or not measured. They hold on an H100, within one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Cost, Image, Rate, Timed

COMPILED, WHOLE_LOOP = "pytorch max-autotune", "session of max-autotune pytorch"
EAGER_LOOP = "session of eager pytorch"
"""The same session, and what it calls a little slower: where the compiled one was not measured."""
TENSORRT = ("tensorrt", "tensorrt-rtx")
ONNXRUNTIME = "onnxruntime-cuda"
_STEP, _BATCH, _DEMO = "reference-256/fp16/batch 1", "reference-256/fp16/batch 16", "demo/fp16/batch 1"
_SMALL = "small-128/fp16/batch 1"


@dataclass(frozen=True)
class Target:
    """What is to be reached: a figure at most, or at least, of a contender."""

    what: str
    contenders: tuple[str, ...]
    group: str
    figure: Callable[[Record, str, Timed], float | None]
    limit: float
    unit: str
    at_most: bool

    def line(self, record: Record) -> list[str]:
        """Return a row of the table."""
        sign = "at most" if self.at_most else "at least"
        row = [self.what, f"{sign} {self.limit:g}{self.unit}"]
        for contender in self.contenders:
            timed = record.find("latency", f"{self.group}/{contender}")
            figure = self.figure(record, self.group, timed) if isinstance(timed, Timed) else None
            if figure is not None:
                met = figure <= self.limit if self.at_most else figure >= self.limit
                return [*row, f"{figure:.3g}{self.unit} ({contender})", "met" if met else "missed"]
        return [*row, "not measured", ""]


def _step(record: Record, group: str, timed: Timed) -> float:
    return timed.step.p50_ms


def _rival(record: Record, group: str, timed: Timed) -> Timed | None:
    """Return compiled PyTorch's figures, where they are of the same run as a contender's."""
    rival = record.find("latency", f"{group}/{COMPILED}")
    runs = {m.run for m in record.document.measurements if m.result in (rival, timed)}
    return rival if isinstance(rival, Timed) and len(runs) == 1 else None


def _faster(record: Record, group: str, timed: Timed) -> float | None:
    rival = _rival(record, group, timed)
    return rival.step.p50_ms / timed.step.p50_ms if rival else None


def _throughput(record: Record, group: str, timed: Timed) -> float | None:
    rival = _rival(record, group, timed)
    return timed.images_per_second / rival.images_per_second if rival else None


def _image(timed: Timed, steps: int) -> Image | None:
    return next((image for image in timed.images if image.steps == steps), None)


def _over_calls(record: Record, group: str, timed: Timed) -> float | None:
    image = _image(timed, 50)
    return image.image.p50_ms / (50 * timed.step.p50_ms) if image else None


def _host(record: Record, group: str, timed: Timed) -> float | None:
    image = _image(timed, 50)
    return image.host.p50_ms if image and image.host else None


def _image_ms(record: Record, group: str, timed: Timed) -> float | None:
    image = _image(timed, 50)
    return image.image.p50_ms if image else None


def _psnr(record: Record, group: str, timed: Timed) -> float | None:
    return timed.psnr_db


def _matrix_rate(record: Record, group: str, timed: Timed) -> float | None:
    """Return what part of the measured matrix rate a step of a batch reaches, in percent."""
    cost, rate = record.find("floor", "cost reference-256"), record.find("floor", "matrix fp16")
    if not (isinstance(cost, Cost) and isinstance(rate, Rate)):
        return None
    return 100 * 16 * cost.flop / (timed.step.p50_ms / 1e3) / rate.per_second


_LOOPS = (WHOLE_LOOP, EAGER_LOOP)
_BEST = (*TENSORRT, ONNXRUNTIME, *_LOOPS)
TARGETS = (
    Target("a step, batch 1", _BEST, _STEP, _step, 2.5, " ms", True),
    Target("a step, batch 1: TensorRT over compiled PyTorch", TENSORRT, _STEP, _faster, 1.2, "x", False),
    Target("a step, batch 1: ONNX Runtime over compiled PyTorch", (ONNXRUNTIME,), _STEP, _faster, 1.0, "x", False),
    Target("50 steps over 50 bare calls: TensorRT", TENSORRT, _STEP, _over_calls, 1.05, "x", True),
    Target("50 steps over 50 bare calls: PyTorch's network", _LOOPS, _STEP, _over_calls, 1.05, "x", True),
    Target("50 steps over 50 bare calls: ONNX Runtime", (ONNXRUNTIME,), _STEP, _over_calls, 1.1, "x", True),
    Target("50 steps, the host's work: TensorRT", TENSORRT, _STEP, _host, 1.0, " ms", True),
    Target("50 steps, the host's work: PyTorch's network", _LOOPS, _STEP, _host, 1.0, " ms", True),
    Target("throughput, batch 16: TensorRT over compiled PyTorch", TENSORRT, _BATCH, _throughput, 1.2, "x", False),
    Target("throughput, batch 16: ONNX Runtime, the same", (ONNXRUNTIME,), _BATCH, _throughput, 1.0, "x", False),
    Target("throughput, batch 16, of the matrix rate", _BEST, _BATCH, _matrix_rate, 45, " %", False),
    Target("final image against fp32 PyTorch, demo model", _BEST, _DEMO, _psnr, 40, " dB", False),
    Target("50 steps at 128x128", _BEST, _SMALL, _image_ms, 60, " ms", True),
)


def targets(record: Record) -> str:
    """Return the table, as Markdown."""
    lines = [["target", "limit", "found", ""], ["---"] * 4, *(target.line(record) for target in TARGETS)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
