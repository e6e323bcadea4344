"""A sampling loop in PyTorch as an expert writes it: what the engines on a GPU are measured against.

The network is eager or compiled, in half precision channels-last where asked; rows and timesteps lie ready, nothing
waits for the GPU before the image is done. Like a session, it draws an image from given noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.torch_network import allow_tf32
from seggd_rt.diffusion import Column, RowTable


class TorchLoop:
    """A UNet2DModel and the update row in PyTorch's own operators.

    Parameters
    ----------
    unet
        The network; it is moved and cast in place.
    mask
        (N, mask channels, H, W) float32: the encoded masks of a batch.
    device
        A device of PyTorch.
    dtype
        What the network computes in; x stays in float32.
    compile_mode
        torch.compile's mode, "max-autotune" say; None runs the network as it is.
    channels_last
        Whether convolutions work on channels-last memory.
    """

    def __init__(
        self,
        unet: nn.Module,
        mask: NDArray[np.float32],
        *,
        device: str,
        dtype: torch.dtype,
        compile_mode: str | None = None,
        channels_last: bool = True,
    ) -> None:
        allow_tf32(False)
        self._device, self._dtype = torch.device(device), dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        network: Any = unet.eval().requires_grad_(False).to(device=self._device, dtype=dtype)
        network = network.to(memory_format=self._format)
        compiled = compile_mode is not None
        self.network: Any = torch.compile(network, mode=compile_mode, dynamic=False) if compiled else network
        self._mask = torch.from_numpy(np.array(mask)).to(self._device)

    def place(self, noise: NDArray[np.float32]) -> Tensor:
        """Return (N, C, H, W) float32 noise on the device."""
        return torch.from_numpy(np.array(noise)).to(self._device)

    @torch.inference_mode()
    def prepare(self, x: Tensor) -> Tensor:
        """Return the network's input for x: [x | mask] in its precision and layout."""
        return torch.cat([x, self._mask], dim=1).to(dtype=self._dtype, memory_format=self._format)

    @torch.inference_mode()
    def step(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Call the network alone on a prepared input and (N,) float32 timesteps: float32, a tensor of its own."""
        output: Tensor = self.network(sample, timestep, return_dict=False)[0]
        return output.to(torch.float32, copy=True)

    @torch.inference_mode()
    def draw(self, x: Tensor, table: RowTable) -> Tensor:
        """Enqueue an image: from x, (N, C, H, W), to (N, H, W, C) float32 in [0, 1] on the device.

        Rows must neither guide, blend nor add noise.
        """
        timesteps = torch.as_tensor(np.repeat(table.timesteps[:, None], len(x), axis=1), dtype=torch.float32)
        timesteps = timesteps.to(self._device)
        x0 = torch.zeros_like(x)
        for timestep, row in zip(timesteps, table.rows.tolist(), strict=True):
            o = self.step(self.prepare(x), timestep)
            last, x0 = x0, (x * row[Column.KX]).add_(o, alpha=row[Column.KO])
            x0.clamp_(-row[Column.CLIP], row[Column.CLIP])
            x = (x * row[Column.CX]).add_(o, alpha=row[Column.CO]).add_(x0, alpha=row[Column.C0])
            if row[Column.CP]:
                x.add_(last, alpha=row[Column.CP])
        return (x / 2 + 0.5).clamp_(0, 1).permute(0, 2, 3, 1).contiguous()
