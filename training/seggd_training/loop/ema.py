"""The exponential moving average of a network's weights, which samples better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """A float32 copy of a network's weights that follows them slowly.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates, so the start is forgotten soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = list(network.parameters())
        self._names = [name for name, _ in network.named_parameters()]
        self._average = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Take in the weights after update n = 0, 1, ..."""
        decay = min(self._decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._parameters], 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by parameter name, shared, not copied."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the average from `state`, which must name every parameter."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network compute with the average inside a `with` block."""
        own = [p.data for p in self._parameters]
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.data = average
        try:
            yield
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.data = data
