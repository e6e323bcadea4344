"""A report's plots. The same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from seggd_training.evaluation.measures import (
    QUANTILES,
    Cost,
    CostRow,
    Distances,
    Estimate,
    InterpolationScores,
    Memorisation,
    Scores,
)
from seggd_training.evaluation.report.record import Report

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")
ReadCost = Callable[[CostRow], Estimate | None]
_COST_PANELS: dict[str, ReadCost] = {
    "Dice": lambda row: row.dice,
    "Frechet distance to real images": lambda row: row.frechet,
    "PSNR to ddim, all steps, dB": lambda row: row.psnr_db,
}
_BAR = 0.8
"""Width of a group of bars; groups are 1 apart."""


def plots(report: Report) -> dict[str, bytes]:
    """Return every plot that a report has figures for, as PNG, by the name of its part."""
    found = {"faithfulness": _draw(1, lambda axes: _faithfulness(axes[0], report))}
    if report.ablation:
        found["ablation"] = _draw(1, lambda axes: _ablation(axes[0], report))
    if report.interpolation:
        found["interpolation"] = _draw(3, lambda axes: _interpolation(axes, report.interpolation))
    if (memorisation := report.memorisation) is not None:
        found["memorisation"] = _draw(2, lambda axes: _memorisation(axes, memorisation))
    if (use := report.use) is not None:
        trained = {"real pairs": use.real, "synthetic pairs": use.synthetic, "both": use.both}
        found["use"] = _draw(1, lambda axes: _dice_bars(axes[0], trained))
    if (cost := report.cost) is not None and cost.rows:
        panels = {what: read for what, read in _COST_PANELS.items() if any(read(row) for row in cost.rows)}
        found["cost"] = _draw(len(panels), lambda axes: _cost(axes, cost, panels))
    return found


def _draw(columns: int, fill: Callable[[Sequence[Axes]], None]) -> bytes:
    figure = Figure(figsize=(max(6.5, 4.2 * columns), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    fill(axes)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    # No date and no version in the file: it changes only when the figures do.
    figure.savefig(picture, dpi=110, format="png", metadata={"Software": None})
    return picture.getvalue()


def _faithfulness(axes: Axes, report: Report) -> None:
    _dice_bars(axes, {"generated images": report.generated, "real images": report.real})


def _dice_bars(axes: Axes, scores: dict[str, Scores]) -> None:
    """Draw the Dice of each class and their mean, side by side."""
    names = [*(c.name for c in next(iter(scores.values())).classes), "mean"]
    width = _BAR / len(scores)
    for index, (what, scored) in enumerate(scores.items()):
        estimates = [*(c.dice for c in scored.classes), scored.dice]
        places = [place + index * width for place, estimate in enumerate(estimates) if estimate is not None]
        _bars(axes, places, [e for e in estimates if e is not None], width * 0.9, what, COLOURS[index])
    axes.set_xticks([place + width * (len(scores) - 1) / 2 for place in range(len(names))], names)
    axes.set_ylabel("Dice against the masks")
    axes.set_ylim(0, 1)
    _legend(axes, above=True)


def _bars(axes: Axes, places: list[float], estimates: list[Estimate], width: float, label: str, colour: str) -> None:
    errors = [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]
    axes.bar(places, [e.mean for e in estimates], width, yerr=errors, capsize=2, label=label, color=colour)


def _ablation(axes: Axes, report: Report) -> None:
    width = _BAR / 2
    rows = report.ablation
    given = [(r.size - width / 2, r.given) for r in rows if r.given is not None]
    _bars(axes, [p for p, _ in given], [e for _, e in given], width * 0.9, "classes given", COLOURS[0])
    others = [(r.size + width / 2, r.others) for r in rows if r.others is not None]
    _bars(axes, [p for p, _ in others], [e for _, e in others], width * 0.9, "the others, inferred", COLOURS[1])
    axes.set_xticks([row.size for row in rows])
    axes.set_xlabel("classes given")
    axes.set_ylabel("Dice against the whole masks")
    axes.set_ylim(0, 1)
    _legend(axes, above=True)


def _interpolation(axes: Sequence[Axes], scores: Sequence[InterpolationScores]) -> None:
    read: tuple[tuple[str, Callable[[InterpolationScores], Estimate | None]], ...] = (
        ("SSIM to the real image", lambda s: s.ssim),
        ("MSE to the real image", lambda s: s.mse),
        ("Dice against the mask", lambda s: s.dice),
    )
    for each, (what, figure) in zip(axes, read, strict=True):
        for index, at in enumerate(dict.fromkeys(s.at for s in scores)):
            points = [(s.weight, estimate) for s in scores if s.at == at and (estimate := figure(s)) is not None]
            _line(each, [x for x, _ in points], [y for _, y in points], f"at {at:g}", COLOURS[index])
        each.set_xlabel("weight of the real image")
        each.set_ylabel(what)
        _legend(each)


def _memorisation(axes: Sequence[Axes], found: Memorisation) -> None:
    spaces: tuple[tuple[str, Distances], ...] = (
        ("root mean square difference to the\nnearest training image", found.pixels),
        ("distance to the nearest training\nimage in the segmenter's features", found.features),
    )
    for each, (what, distances) in zip(axes, spaces, strict=True):
        for index, name in enumerate(("generated", "real")):
            estimates: list[Estimate] = [getattr(pair, name) for pair in distances.quantiles]
            label, colour = f"{name} images", COLOURS[index]
            each.plot([e.mean for e in estimates], QUANTILES, label=label, color=colour)
            low, high = [e.low for e in estimates], [e.high for e in estimates]
            each.fill_betweenx(QUANTILES, low, high, color=colour, alpha=0.2, linewidth=0)
        each.set_xlim(left=0)
        each.set_ylim(0, 1)
        each.set_xlabel(what)
        each.set_ylabel("part of the images nearer than that")
        _legend(each)


def _cost(axes: Sequence[Axes], cost: Cost, panels: Mapping[str, ReadCost]) -> None:
    samplers = list(dict.fromkeys(row.setting.sampler for row in cost.rows))
    base = cost.find(cost.base)
    # Times were taken in turn with the base's: what else the machine did meanwhile moves seconds, and not their ratios.
    unit = median(row.seconds_per_image / row.time_ratio for row in cost.rows)
    for each, (what, figure) in zip(axes, panels.items(), strict=True):
        for index, sampler in enumerate(samplers):
            rows = [r for r in cost.rows if r.setting.sampler is sampler and r.setting.engine == cost.base.engine]
            points = [
                (unit * row.time_ratio, estimate)
                for row in sorted(rows, key=lambda row: row.setting.steps)
                if (estimate := figure(row)) is not None
            ]
            _line(each, [x for x, _ in points], [y for _, y in points], sampler.value, COLOURS[index])
        others = [
            (unit * r.time_ratio, estimate)
            for r in cost.rows
            if r.setting.engine != cost.base.engine and (estimate := figure(r)) is not None
        ]
        if others:
            _line(each, [x for x, _ in others], [y for _, y in others], "other engines", COLOURS[-1], joined=False)
        if base is not None and (estimate := figure(base)) is not None:
            each.axhline(estimate.mean, color="black", linewidth=0.6, linestyle=":")
        each.set_xscale("log")
        each.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        each.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        each.xaxis.set_minor_formatter(NullFormatter())
        each.set_xlabel("seconds an image")
        each.set_ylabel(what)
        _legend(each)


def _legend(axes: Axes, *, above: bool = False) -> None:
    """Explain the colours, above the axes where bars would lie below the legend."""
    if not axes.get_legend_handles_labels()[0]:
        return
    if above:
        axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    else:
        axes.legend(frameon=False, fontsize="small")


def _line(
    axes: Axes, x: list[float], estimates: list[Estimate], label: str, colour: str, *, joined: bool = True
) -> None:
    if not x:
        return
    errors = [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]
    style = "o-" if joined else "s"
    axes.errorbar(
        x, [e.mean for e in estimates], yerr=errors, fmt=style, capsize=2, markersize=4, label=label, color=colour
    )
