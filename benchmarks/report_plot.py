"""One picture of a file of figures: a step of every contender of each fp16 group, in multiples of the floor."""

from __future__ import annotations

import io
from pathlib import Path

from benchmarks.gpu.machine.floor import Floor, floor_of
from benchmarks.gpu.record import Record
from benchmarks.gpu.results import Group, Timed
from seggd_rt.diffusion import Precision
from seggd_rt.files import make_folder, write_file

_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d")


def plot(record: Record, path: Path) -> bool:
    """Write the picture; return whether there was anything to draw. The same figures give the same bytes."""
    groups = [
        (m.name, m.result, floor)
        for m in record.document.measurements
        if isinstance(m.result, Group) and m.result.precision == Precision.FP16
        if (floor := floor_of(record, m.result.subject, Precision.FP16, m.result.batch)) is not None
    ]
    if not groups:
        return False
    make_folder(path.parent)
    write_file(path, _drawn(record, groups))
    return True


def _drawn(record: Record, groups: list[tuple[str, Group, Floor]]) -> bytes:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    contenders = list(dict.fromkeys(contender for _, group, _ in groups for contender in group.contenders))
    height = 0.8 / len(contenders)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.25 * len(groups) * len(contenders)), layout="constrained")
    for index, contender in enumerate(contenders):
        places, lengths = [], []
        for row, (name, _, floor) in enumerate(groups):
            timed = record.find("latency", f"{name}/{contender}")
            if isinstance(timed, Timed):
                places.append(row + index * height)
                lengths.append(timed.step.p50_ms / floor.ms)
        axes.barh(places, lengths, height * 0.9, label=contender, color=_COLOURS[index % len(_COLOURS)])
    axes.axvline(1, color="black", linewidth=0.8)
    middle = height * (len(contenders) - 1) / 2
    axes.set_yticks([row + middle for row in range(len(groups))], [name for name, _, _ in groups])
    axes.invert_yaxis()
    axes.set_xlabel("a step, in multiples of the floor: products, or bytes without fusion")
    axes.legend(frameon=False, fontsize="small")
    picture = io.BytesIO()
    # No date and no version in the file: it changes only when the figures do.
    figure.savefig(picture, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    return picture.getvalue()
