"""An image on its way: shown in a terminal that can, and kept as an animation."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.live import Live
from rich.text import Text

from seggd_rt import terminal
from seggd_rt.engine import OnStep, Step
from seggd_rt.errors import DataError, OutputError
from seggd_rt.files import open_regular
from seggd_rt.imaging import Provenance, parse, rgb
from seggd_rt.inference import Generator, HowToDraw, Preview
from seggd_rt.runs import Draw, Images, Item, Maps, Plan, Starts, require_all_same, settings_of

_WIDEST = 64
"""Columns a picture takes at most."""
_FRAME_MS, _LAST_MS = 80, 1500
"""How long an animation shows a frame, and its last one."""


def half_blocks(picture: NDArray[np.uint8], columns: int) -> Text:
    """Return a picture as coloured text, two pixels a character.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    columns
        How wide it may be.
    """
    height, width = picture.shape[:2]
    columns = min(columns, width)
    rows = max(2, 2 * round(height * columns / width / 2))
    pixels = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(pixels[0::2], pixels[1::2], strict=True):
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", f"rgb({','.join(map(str, top))}) on rgb({','.join(map(str, bottom))})")
        text.append("\n")
    return text


class LiveImage:
    """Keeps an image's previews, and shows them in the terminal. Use it as a context manager.

    Where the terminal has too few colours, or there is none, nothing is shown.
    """

    def __init__(self, wanted: bool) -> None:
        console = terminal.console(stderr=True)
        self.frames: list[NDArray[np.float32]] = []
        self.can_show = wanted and console.is_terminal and console.color_system in ("256", "truecolor")
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def show(self, look: Preview) -> None:
        """Keep a preview, and show it where that can be."""
        self.frames.append(look.image)
        if self.can_show:
            picture = half_blocks(rgb(look.image), min(_WIDEST, self._console.width))
            self._live.update(Text.assemble(picture, f"step {look.done}/{look.steps}"), refresh=True)

    def __enter__(self) -> LiveImage:
        """Take the terminal."""
        if self.can_show:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        if self.can_show:
            self._live.stop()


def draw_watched(plan: Plan, generator: Generator, every: int, live: LiveImage) -> Draw:
    """Return what draws the only image of a plan, and shows it after every so many steps."""

    def draw(items: Sequence[Item], label_maps: Maps, starts: Starts, on_step: OnStep | None) -> Images:
        (item,) = items
        noise = None if starts is None else starts[0]
        how: HowToDraw = {**settings_of(plan), "keep": item.classes}
        for look in generator.stream(label_maps[0], every=every, seed=item.seed, noise=noise, **how):
            live.show(look)
            if on_step is not None:
                on_step(Step(look.done - 1, look.steps, 0))
        return look.image[None]

    return draw


def gif_bytes(frames: list[NDArray[np.float32]], comment: bytes = b"") -> bytes:
    """Return previews, (H, W[, C]) float32 in [0, 1], as an animated GIF that repeats and holds a comment."""
    pictures = [Image.fromarray(rgb(frame)) for frame in frames]
    durations = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_MS]
    data = io.BytesIO()
    pictures[0].save(
        data,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        disposal=1,
        comment=comment,
    )
    return data.getvalue()


def check_gif_replaceable(path: Path, made: Sequence[Provenance], *, force: bool) -> None:
    """Refuse to replace a file that is not a seggd-rt animation or, without `force`, one with other settings.

    Raises
    ------
    OutputError
        The file has no provenance record.
    OptionError
        It was made with other settings.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=["GIF"]) as animation:
            before = parse(bytes(animation.info.get("comment", b"")), str(path))
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error, DataError) as error:
        raise OutputError(
            f"{path} already exists and was not written by seggd-rt: delete it or choose another output"
        ) from error
    if not force:
        require_all_same(path, before, made)
