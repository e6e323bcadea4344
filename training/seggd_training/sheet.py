"""A contact sheet: one row a case, mask | generated | its prediction | real | its prediction, labelled."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seggd_rt.labels import LabelClass, colorize
from seggd_training.faithfulness import Cases, Faithfulness

COLUMNS = ("mask", "generated", "prediction", "real", "prediction")
_CELL = 128
"""Smallest side of a picture on the sheet, in pixels: smaller images are enlarged by a whole factor."""
_GAP = 4
_HEADER = 26
_MARGIN = 108
_FONT_SIZE = 14
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def spread_cases(patients: NDArray[np.generic], count: int) -> NDArray[np.int64]:
    """Return up to `count` indices, evenly spread over the images in order of their patients: always the same ones."""
    order = np.argsort(patients, kind="stable")
    count = min(count, len(order))
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * count)].astype(np.int64)


def render_sheet(
    cases: Cases, outcome: Faithfulness, chosen: Sequence[int] | NDArray[np.int64], classes: Sequence[LabelClass]
) -> Image.Image:
    """Draw the sheet.

    Parameters
    ----------
    cases, outcome
        What was measured, and what came out.
    chosen
        Which cases, a row each.
    classes
        Background first, with their colours.
    """
    height, width = cases.label_maps.shape[1:]
    factor = max(1, -(-_CELL // min(height, width)))
    cell_h, cell_w = height * factor, width * factor
    sheet_w = _MARGIN + len(COLUMNS) * (cell_w + _GAP)
    rows_h = len(chosen) * (cell_h + _GAP)
    sheet = Image.new("RGB", (sheet_w, _HEADER + rows_h + _HEADER), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT_SIZE)
    for column, title in enumerate(COLUMNS):
        x = _MARGIN + column * (cell_w + _GAP) + cell_w // 2
        draw.text((x, _HEADER // 2), title, _INK, font, anchor="mm")
    for row, case in enumerate(chosen):
        y = _HEADER + row * (cell_h + _GAP)
        label = "\n".join(_fitted(line, draw, font) for line in cases.titles[case].splitlines())
        draw.multiline_text((6, y + cell_h // 2), label, _INK, font, anchor="lm")
        pictures = (
            colorize(cases.label_maps[case], classes),
            _rgb(outcome.generated_images[case]),
            colorize(outcome.generated_labels[case], classes),
            _rgb(cases.images[case]),
            colorize(outcome.real_labels[case], classes),
        )
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((cell_w, cell_h), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_MARGIN + column * (cell_w + _GAP), y))
    _draw_legend(draw, font, classes, _HEADER + rows_h + _HEADER // 2)
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _fitted(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Return text that the margin has room for: names mostly differ at their ends, which stay."""
    cut = text
    while draw.textlength(cut, font) > _MARGIN - 12:
        text = text[1:]
        cut = f"...{text}"
    return cut


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    classes: Sequence[LabelClass],
    y: int,
) -> None:
    x = _MARGIN
    for label_class in classes[1:]:
        draw.rectangle((x, y - 6, x + 12, y + 6), fill=label_class.color)
        draw.text((x + 18, y), label_class.name, _INK, font, anchor="lm")
        x += 18 + int(draw.textlength(label_class.name, font)) + 22


def _rgb(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of (H, W, C) in [0, 1]: grey of the first channel unless there are three."""
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels[..., :1], 3, axis=2)
