"""The moving average follows, warms up, and is lent to the network for a while only."""

from __future__ import annotations

import torch
from torch import nn

from seggd_training.loop import MovingAverage


def test_average_warms_up_then_decays() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = MovingAverage(network, 0.5)
    nn.init.ones_(network.weight)
    values = []
    for n in range(12):
        ema.update(n)
        values.append(ema.state_dict()["weight"].item())
    wanted, average = [], 0.0
    for n in range(12):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay)
        wanted.append(average)
    torch.testing.assert_close(torch.tensor(values), torch.tensor(wanted))


def test_average_is_lent_and_given_back() -> None:
    network = nn.Linear(2, 2)
    ema = MovingAverage(network, 0.9)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1)
    with ema.applied():
        assert torch.equal(network.weight, start)
    assert torch.equal(network.weight, start + 1)


def test_state_is_restored() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    state = MovingAverage(first, 0.9).state_dict()
    ema = MovingAverage(second, 0.9)
    ema.load_state_dict(state)
    assert torch.equal(ema.state_dict()["weight"], first.weight)
    assert ema.state_dict()["weight"].data_ptr() != first.weight.data_ptr()
