"""What an application in Python does: one generator for its lifetime, shared by threads, with cancelling and previews.

python examples/python/embed.py BUNDLE
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import seggd_rt


class CancelledError(Exception):
    """The user went on to something else."""


def disk(shape: tuple[int, int], radius: int) -> np.ndarray:
    """Return a label map, (H, W) uint8, with a disk of class 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - shape[0] // 2) ** 2 + (x - shape[1] // 2) ** 2 < radius**2).astype(np.uint8)


def main(path: str) -> None:
    """Draw in the ways that an application does."""
    with seggd_rt.load(path) as generator:  # closed at the end: the engine's memory goes
        image = generator.manifest.image
        size = (image.height, image.width)
        print(generator.engine)

        # Into memory of the application's own, as often as it likes: nothing else is allocated.
        channels = () if image.channels == 1 else (image.channels,)
        texture = np.empty((*size, *channels), np.uint8)
        for radius in range(3, 8):
            start = time.perf_counter()
            generator(disk(size, radius), seed=7, steps=10, sampler="dpm-solver++", out=texture)
            print(f"radius {radius}: {1e3 * (time.perf_counter() - start):.1f} ms, mean {texture.mean():.1f}")

        # Several threads at once: each call has buffers of its own, and images depend on their seeds alone.
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(lambda seed: generator(disk(size, 6), seed=seed, steps=10), range(8)))
        print(f"{len(images)} images by 4 threads")

        # A callback that raises ends the run; what it raises comes out of the call.
        def give_up(step: object) -> None:
            raise CancelledError

        try:
            generator(disk(size, 6), on_step=give_up)
        except CancelledError:
            print("cancelled")

        # What the image will become; leaving the loop ends the run too.
        for preview in generator.stream(disk(size, 6), steps=10, every=5):
            print(f"step {preview.done} of {preview.steps}: mean {preview.image.mean():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
