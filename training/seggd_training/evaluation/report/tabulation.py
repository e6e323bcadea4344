"""The tables of a report, as plain text in rows: for a terminal, for the page, and for Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rich import box
from rich.table import Table

from seggd_rt.wording import counted, printable
from seggd_training.evaluation.measures import (
    COPY,
    NEAR,
    SIDE,
    Cost,
    CostRow,
    Distances,
    Estimate,
    InterpolationScores,
    Memorisation,
    Realism,
    Scores,
    UseScores,
)
from seggd_training.evaluation.report.record import Report

Row = tuple[str, ...]
_HAS_INTERVALS = " [95 % interval]"
_INTERVAL = re.compile(r" \[[^\]]*\]$")


@dataclass(frozen=True)
class TextTable:
    """A table: a part of the report, a title, headings, rows, and what a reader must know of it."""

    part: str
    title: str
    headings: Row
    rows: tuple[Row, ...]
    caption: str = ""
    bold: frozenset[int] = field(default_factory=frozenset)
    """Rows to set off."""


def tables(report: Report) -> tuple[TextTable, ...]:
    """Return every table that a report has figures for."""
    return (
        faithfulness_table(report),
        contours_table(report),
        *((realism_table(report.realism),) if report.realism else ()),
        *((ablation_table(report),) if report.ablation else ()),
        *((interpolation_table(report.interpolation),) if report.interpolation else ()),
        *(memorisation_tables(report.memorisation, report.data.images) if report.memorisation else ()),
        *((use_table(report.use),) if report.use else ()),
        *((cost_table(report.cost),) if report.cost and report.cost.rows else ()),
    )


def faithfulness_table(report: Report) -> TextTable:
    """Return the Dice of each class, generated beside real."""
    who = "patients" if report.data.patients is not None else "images"
    pairs = list(zip(report.generated.classes, report.real.classes, strict=True))
    return TextTable(
        "faithfulness",
        f"Dice against the masks, mean over {report.generated.dice.count} {who}{_HAS_INTERVALS}",
        ("class", "generated", "real images"),
        (
            *((drawn.name, _text(drawn.dice), _text(real.dice)) for drawn, real in pairs),
            ("mean", _text(report.generated.dice), _text(report.real.dice)),
        ),
        f"image by image: {report.generated.image_dice:.3f} generated, {report.real.image_dice:.3f} real; "
        f"{counted(report.data.images, 'image')} of {report.data.name}, {report.data.split}",
        frozenset({len(pairs)}),
    )


def contours_table(report: Report) -> TextTable:
    """Return IoU and Hausdorff distance of each class, generated beside real."""

    def rows(what: str, scores: Scores) -> tuple[Row, ...]:
        return tuple(
            (
                f"{c.name}, {what}",
                _text(c.iou),
                _text(c.hd95_px),
                "-" if c.unmatched is None else f"{100 * c.unmatched:.1f} %",
            )
            for c in scores.classes
        )

    return TextTable(
        "faithfulness",
        "Overlap and contours" + _HAS_INTERVALS,
        ("class", "IoU", "95 % Hausdorff distance, px", "shown in one only"),
        (*rows("generated", report.generated), *rows("real", report.real)),
        "The distance is of images that show the class both in the mask and in what the segmenter finds; the last "
        "column is how many show it in one of them alone.",
    )


def realism_table(realism: Realism) -> TextTable:
    """Return how real generated images look, beside the same of real ones."""
    compared = [("Frechet distance, segmenter's features", realism.frechet)]
    if realism.other is not None:
        compared.append((f"Frechet distance, features of {realism.other.graph}", realism.other.frechet))
    if realism.similarity is not None:
        compared.append(("SSIM of different patients", realism.similarity))
    compared += [(f"median grey of {intensity.name}", intensity.median) for intensity in realism.intensities]
    return TextTable(
        "realism",
        "How real they look, beside real images" + _HAS_INTERVALS,
        ("measure", "generated", "real images"),
        tuple((name, _text(pair.generated), _text(pair.real)) for name, pair in compared),
        "The distance is to the measured split's real images; that of real images is of images of the training split, "
        "which the segmenter has seen. It does not see brightness and contrast: for those there are the grey levels.",
    )


def ablation_table(report: Report) -> TextTable:
    """Return the Dice by size of subset."""
    empty = sum(row.empty for row in report.ablation)
    drawn = report.data.images * len(report.ablation)
    untrained = "The network was trained on whole masks: it never saw classes left out. "
    return TextTable(
        "ablation",
        "Dice of images drawn from some of the classes" + _HAS_INTERVALS,
        ("classes given", "of those given", "of the others, inferred"),
        tuple((str(row.size), _text(row.given), _text(row.others)) for row in report.ablation),
        (untrained if report.bundle.trained_with_ablation is False else "")
        + f"{empty} of the {counted(drawn, 'image')} are drawn from masks that show none of the classes given.",
    )


def interpolation_table(scores: tuple[InterpolationScores, ...]) -> TextTable:
    """Return similarity to the real image and Dice, by weight."""
    return TextTable(
        "interpolation",
        "Latent interpolation: similarity to the mask's own real image" + _HAS_INTERVALS,
        ("at", "weight", "SSIM", "MSE", "Dice against the mask"),
        tuple((f"{s.at:g}", f"{s.weight:g}", _text(s.ssim), _small(s.mse), _text(s.dice)) for s in scores),
        "Weight 0 is the plain generation, 1 starts from the noised real image.",
    )


def memorisation_tables(found: Memorisation, images: int) -> tuple[TextTable, TextTable]:
    """Return how far the nearest training images are, of generated and of real images, and what follows from it."""
    spaces = (("pixels", found.pixels), ("features", found.features))
    whose = "" if found.patients is None else f" of {counted(found.patients, 'patient')}"
    distances = tuple(
        (f"{space}, {name}", _text(pair.generated), _text(pair.real))
        for space, far in spaces
        for name, pair in (("median", far.at(0.5)), (f"nearest {NEAR:.0%}", far.at(NEAR)), ("nearest", far.at(0)))
    )
    said = (
        f"Taken for copies: {found.copies} of {counted(images, 'generated image')}, and {found.real_copies} of as many "
        f"real ones, which in pixels or features are nearer than {COPY:g} times the bound of the nearest {NEAR:.0%} of "
        "real images."
    )
    return (
        TextTable(
            "memorisation",
            f"Distance to the nearest of {counted(found.images, 'training image')}{whose}{_HAS_INTERVALS}",
            ("distance", "generated", "held-out real images"),
            distances,
            f"Pixels: root mean square difference of images averaged down to at most {SIDE} pixels a side, of mean 0 "
            "and variance 1, so that noise, brightness and contrast do not count. Features: of the segmenter.",
        ),
        TextTable(
            "memorisation",
            "Are generated images nearer to training images than real ones are?" + _HAS_INTERVALS,
            ("distance", "ratio of medians", f"nearer than the nearest {NEAR:.0%} of real", "nearer than any real"),
            (
                *(
                    (space, _text(far.ratio), _text(far.nearer_than_near), _text(far.nearer_than_all))
                    for space, far in spaces
                ),
                ("as far as real images", "1", f"{NEAR:g}", "0"),
            ),
            f"{said} {' '.join(_nearness(space, far) for space, far in spaces)} Of copies that training turned or "
            "shifted, pixels see less than features.",
            frozenset({len(spaces)}),
        ),
    )


def _nearness(space: str, far: Distances) -> str:
    """Say whether generated images are nearer to training images than real ones are, as far as the intervals tell."""
    ratio, near = far.ratio, far.nearer_than_near
    if near.count < 2:
        return f"In {space} the figures are of one patient and have no intervals: they decide nothing."
    if ratio is None:
        median = "medians cannot be compared, as that of real images is 0"
    elif ratio.high < 1:
        median = "the median generated image is nearer to the training images than the median real one"
    elif ratio.low > 1:
        median = "the median generated image is farther from the training images than the median real one"
    else:
        median = "the medians of generated and real images do not differ beyond the interval"
    if near.low > NEAR:
        tail = f"more than {NEAR:.0%} of the generated images are nearer than the nearest {NEAR:.0%} of real ones"
    elif near.high < NEAR:
        tail = f"fewer than {NEAR:.0%} of the generated images are nearer than the nearest {NEAR:.0%} of real ones"
    else:
        tail = f"about {NEAR:.0%} of the generated images are nearer than the nearest {NEAR:.0%} of real ones"
    return f"In {space} {median}, and {tail}."


def use_table(use: UseScores) -> TextTable:
    """Return the Dice of segmenters trained on real and on synthetic pairs."""
    trained = (("real pairs", use.real), ("synthetic pairs", use.synthetic), ("both", use.both))
    names = [c.name for c in use.real.classes]
    return TextTable(
        "use",
        "Dice on real patients of segmenters trained on ..." + _HAS_INTERVALS,
        ("trained on", *names, "mean", "less real"),
        tuple(
            (
                name,
                *(_text(c.dice) for c in scores.classes),
                _text(scores.dice),
                {"real pairs": "", "synthetic pairs": _signed(use.synthetic_less_real)}.get(
                    name, _signed(use.both_less_real)
                ),
            )
            for name, scores in trained
        ),
        f"{use.pairs} synthetic pairs, one for each real training mask; as many steps of training each.",
    )


def cost_table(cost: Cost) -> TextTable:
    """Return quality and time of each setting."""
    enough = cost.enough()
    said = ", ".join(f"{sampler} {steps}" for sampler, steps in enough.items())
    return TextTable(
        "cost",
        f"Quality and time, beside {cost.base}{_HAS_INTERVALS}",
        ("sampler", "steps", "engine", "Dice", "change", "Frechet distance", "change", "PSNR, dB", "s/image", "x time"),
        tuple(_cost_row(row) for row in cost.rows),
        "Changes are of the same resampled patients; PSNR is to ddim with all training steps, from the same noise. "
        + (f"Fewest steps from which on neither figure is worse beyond its interval: {said}" if said else "")
        + (
            f" (of {counted(cost.rows[0].frechet.count, 'patient')}: the fewer, the wider the intervals)."
            if said
            else ""
        ),
    )


def _cost_row(row: CostRow) -> Row:
    engine = row.setting.engine
    return (
        row.setting.sampler.value,
        str(row.setting.steps),
        f"{engine.engine} {engine.precision}",
        _text(row.dice),
        _signed(row.dice_change),
        _text(row.frechet),
        _signed(row.frechet_change),
        "" if row.psnr_db is None else f"{row.psnr_db.mean:.1f}",
        f"{row.seconds_per_image:.3g}",
        f"{row.time_ratio:.2f}",
    )


def for_terminal(table: TextTable, width: int) -> Table:
    """Return a table for `rich` to print in a number of columns: without intervals where they find no room."""
    title, caption, rows = table.title, table.caption, table.rows
    widest = [max(len(row[column]) for row in (table.headings, *rows)) for column in range(len(table.headings))]
    if sum(widest) + 2 * len(widest) > width:
        rows = tuple((first, *(_INTERVAL.sub("", cell) for cell in rest)) for first, *rest in rows)
        title = title.replace(_HAS_INTERVALS, "")
        caption = f"{caption} Intervals: report.html, or a wider terminal.".lstrip()
    shown = Table(
        title=printable(title), caption=printable(caption) or None, box=box.SIMPLE_HEAD, min_width=min(78, width)
    )
    for index, heading in enumerate(table.headings):
        shown.add_column(printable(heading), justify="right" if index else "left")
    for index, row in enumerate(rows):
        if index in table.bold:
            shown.add_section()
        shown.add_row(*map(printable, row), style="bold" if index in table.bold else None)
    return shown


def markdown(table: TextTable) -> str:
    """Return a table's rows in Markdown, without title and caption."""
    rule = ("---", *("---:" for _ in table.headings[1:]))
    lines = (table.headings, rule, *table.rows)
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _text(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _signed(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.text(3, "+")


def _small(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.text(4)
