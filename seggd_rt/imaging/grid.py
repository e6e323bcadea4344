"""A labelled grid of pictures: titles above its columns, a label before each row, a legend of classes below."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seggd_rt.diffusion import LabelClass
from seggd_rt.imaging.png import png_texts
from seggd_rt.imaging.provenance import Provenance

_CELL = 128
"""Smallest side of a picture in the grid, in pixels: smaller ones are enlarged by a whole factor."""
_GAP = 4
_LINE = 18
_PADDING = 6
_FONT_SIZE = 14
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_LABEL_WIDTH = 96
"""Pixels of the longest label."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def render_grid(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    *,
    titles: Sequence[str],
    labels: Sequence[str] | None = None,
    legend: Sequence[LabelClass] = (),
) -> Image.Image:
    """Draw a grid.

    Parameters
    ----------
    rows
        Pictures, (H, W, 3) uint8, all of one size; a row may be shorter than others.
    titles
        Above each column; may have several lines.
    labels
        Before each row; may have several lines, which are cut where they are too long.
    legend
        Classes, background first, whose colours are explained below.
    """
    height, width = rows[0][0].shape[:2]
    factor = max(1, -(-_CELL // min(height, width)))
    cell_h, cell_w = height * factor, width * factor
    font = ImageFont.load_default(size=_FONT_SIZE)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    margin = 0
    if labels is not None:
        labels = ["\n".join(fit_label(line, font) for line in label.splitlines()) for label in labels]
        margin = 2 * _PADDING + max(int(measure.multiline_textbbox((0, 0), text, font)[2]) for text in labels)
    header = _PADDING + _LINE * max(title.count("\n") + 1 for title in titles)
    footer = _LINE + _PADDING if legend else 0
    columns = max(map(len, rows))
    grid = Image.new("RGB", (margin + columns * (cell_w + _GAP), header + len(rows) * (cell_h + _GAP) + footer), _PAPER)
    draw = ImageDraw.Draw(grid)
    for column, title in enumerate(titles):
        x = margin + column * (cell_w + _GAP) + cell_w // 2
        draw.multiline_text((x, header // 2), title, _INK, font, anchor="mm", align="center")
    for row, pictures in enumerate(rows):
        y = header + row * (cell_h + _GAP)
        if labels is not None:
            draw.multiline_text((_PADDING, y + cell_h // 2), labels[row], _INK, font, anchor="lm")
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((cell_w, cell_h), Image.Resampling.NEAREST)
            grid.paste(enlarged, (margin + column * (cell_w + _GAP), y))
    if legend:
        _draw_legend(draw, font, legend, margin or _PADDING, header + len(rows) * (cell_h + _GAP) + footer // 2)
    return grid


def render_titled(
    cells: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int, legend: Sequence[LabelClass] = ()
) -> Image.Image:
    """Draw pictures in rows, each below a title of its own.

    Parameters
    ----------
    cells
        Titles, of any number of lines, and pictures, (H, W, 3) uint8, all of one size.
    columns
        Pictures a row.
    legend
        As for `render_grid`, below the last row.
    """
    starts = range(0, len(cells), columns)
    parts = [
        render_grid(
            [[picture for _, picture in cells[start : start + columns]]],
            titles=[title for title, _ in cells[start : start + columns]],
            legend=legend if start == starts[-1] else (),
        )
        for start in starts
    ]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), _PAPER)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def fit_label(text: str, font: Font) -> str:
    """Return a line that the margin has room for: names mostly differ at their ends, which stay."""
    cut = text
    while font.getlength(cut) > _LABEL_WIDTH:
        text = text[1:]
        cut = f"...{text}"
    return cut


def rgb(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of (H, W[, C]) in [0, 1]: grey of the first channel unless there are three."""
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    return np.repeat(grey[..., None], 3, axis=2)


def png_bytes(image: Image.Image, made: Sequence[Provenance] = ()) -> bytes:
    """Return an image as PNG, with how the images in it were made."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, pnginfo=png_texts(made))
    return buffer.getvalue()


def _draw_legend(draw: ImageDraw.ImageDraw, font: Font, classes: Sequence[LabelClass], x: int, y: int) -> None:
    for label_class in classes[1:]:
        draw.rectangle((x, y - 6, x + 12, y + 6), fill=label_class.color)
        draw.text((x + 18, y), label_class.name, _INK, font, anchor="lm")
        x += 18 + int(draw.textlength(label_class.name, font)) + 22
