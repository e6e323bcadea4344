"""From a bundle and an engine to images: `load`, the generator, the checks of what a caller gives."""

from seggd_rt.inference.generator import EmptyMaskWarning, Generator, Preview
from seggd_rt.inference.loading import AUTO, load, load_bundle, network_shape, open_network
from seggd_rt.inference.sampling_params import AblationWarning, Drawing, HowToDraw

__all__ = [
    "AUTO",
    "AblationWarning",
    "Drawing",
    "EmptyMaskWarning",
    "Generator",
    "HowToDraw",
    "Preview",
    "load",
    "load_bundle",
    "network_shape",
    "open_network",
]
