"""The ONNX graphs of a bundle: the network in each precision, the sampling loop, the segmenter."""

from seggd_export.graphs.half import OPSETS, to_half
from seggd_export.graphs.network import Network
from seggd_export.graphs.sampler import sampler_graph
from seggd_export.graphs.segmenter import MakeSegmenter, ShippedSegmenter, write_segmenter
from seggd_export.graphs.tracing import trace

__all__ = [
    "OPSETS",
    "MakeSegmenter",
    "Network",
    "ShippedSegmenter",
    "sampler_graph",
    "to_half",
    "trace",
    "write_segmenter",
]
