"""Plot a training log's loss and validation loss against the images seen (needs matplotlib).

python examples/cardiac/plot_curve.py LOG.jsonl CURVE.png
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def main(log: str, picture: str) -> None:
    """Write the picture."""
    lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for key, name, style in (("loss", "training loss", "-"), ("val_loss", "validation loss (EMA)", "o-")):
        points = [(line["images"] / 1000, line[key]) for line in lines if key in line]
        axes.plot(*zip(*points, strict=True), style, label=name, markersize=3, linewidth=0.8)
    axes.set(xlabel="thousand images seen", ylabel="loss (v prediction, min-SNR 5)", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
