"""Write the dozen validation masks of this folder from the ACDC array file.

python examples/cardiac/make_masks.py acdc_roi128.npz SIZE

One slice for each of twelve (patient, phase) pairs, the one with the most labelled pixels of the rarest class, as a
palette PNG whose indices are the labels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from seggd_rt.diffusion import name_classes, resize_nearest

COUNT = 12


def main(data: str, size: str) -> None:
    """Write masks/pPPP_{ed,es}_sSS.png."""
    with np.load(data, allow_pickle=False) as arrays:
        split, patient, phase, slices = (arrays[name] for name in ("split", "patient", "phase", "slice"))
        labels, names = arrays["label"], arrays["class_names"].tolist()
    classes = name_classes(names)
    palette = [value for c in classes for value in c.color]
    pairs = sorted({(int(p), int(e)) for p, e in zip(patient[split == 1], phase[split == 1], strict=True)})
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, COUNT).round().astype(int)]
    for number, at in chosen:
        members = np.flatnonzero((split == 1) & (patient == number) & (phase == at))
        rarest = [min((labels[m] == c.id).sum() for c in classes[1:]) for m in members]
        best = members[int(np.argmax(rarest))]
        image = Image.fromarray(resize_nearest(labels[best], int(size), int(size)))
        image.putpalette(palette)
        name = f"p{number:03d}_{'es' if at else 'ed'}_s{int(slices[best]):02d}.png"
        image.save(Path(__file__).parent / "masks" / name, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
