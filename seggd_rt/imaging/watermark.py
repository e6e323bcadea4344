"""A corner of an image that says, in its pixels, that it is synthetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MARK = "SYNTHETIC"
_SHARE = 0.4
"""Of an image's width that its mark takes."""
_SMALLEST_FONT = 6


def mark(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image, (H, W) float32 in [0, 1], with a corner that says it is synthetic, white on black."""
    height, width = image.shape
    font = ImageFont.load_default(size=_SMALLEST_FONT)
    for size in range(_SMALLEST_FONT, height):
        larger = ImageFont.load_default(size=size)
        if larger.getlength(MARK) > _SHARE * width:
            break
        font = larger
    box = font.getbbox(MARK)
    tall, wide = min(height, int(box[3]) + 2), min(width, int(box[2]) + 2)
    label = Image.new("L", (wide, tall))
    ImageDraw.Draw(label).text((1, 0), MARK, 255, font)
    marked = image.copy()
    marked[height - tall :, :wide] = np.asarray(label, np.float32) / 255
    return marked
