"""How an image was made, for tests of what carries it."""

from __future__ import annotations

from seggd_rt.imaging import Provenance

MADE = Provenance(
    seed=(1 << 53) - 1,
    classes=("Herzhöhle", "myocardium"),
    mask_sha256="c" * 64,
    sampler="ddim",
    steps=50,
    eta=0.0,
    spacing="leading",
    guidance=0.0,
    against=None,
    at=None,
    engine="onnxruntime",
    precision="fp32",
    bundle="0" * 64,
    version="0.1.0",
)
