"""Write an array file with twice the validation masks: each as it is, and turned by 10 degrees with its image.

python examples/cardiac/more_masks.py acdc_roi128.npz acdc_376.npz

188 masks are all that ACDC's validation patients have here. Turned ones are masks that no training showed either, and
keep the patient they are of. They carry on the licence of the data: see NOTICE.txt.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEGREES = 10
_MARGIN = 24
"""Pixels by which a corner moves, and some more."""


def main(source: str, target: str) -> None:
    """Read `source`, write `target`."""
    with np.load(source, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays}
    chosen = content["split"] == 1
    added = {name: array[chosen] for name, array in content.items() if name != "class_names"}
    added["image"] = turned(added["image"], Image.Resampling.BICUBIC)
    added["label"] = turned(added["label"], Image.Resampling.NEAREST)
    content.update({name: np.concatenate([content[name], array]) for name, array in added.items()})
    np.savez_compressed(target, **content)


def turned(stack: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
    """Turn each of a stack of pictures, (N, H, W); what comes in at the edges is mirrored."""
    wide = np.pad(stack, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)), mode="symmetric")
    pictures = [np.asarray(Image.fromarray(one).rotate(DEGREES, how)) for one in wide]
    return np.stack(pictures)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


if __name__ == "__main__":
    main(*sys.argv[1:])
