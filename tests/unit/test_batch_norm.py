"""Several batches side by side must be several batches."""

import copy

import torch
from torch import nn

from momkd.nn.batch_norm import BatchNorm, several_batches


def test_side_by_side_equals_one_after_another():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), BatchNorm(4), nn.ReLU(), nn.Linear(4, 2)).double()
    twin = copy.deepcopy(network)
    batches = [torch.randn(6, 5, dtype=torch.float64) * (1 + i) + i for i in range(3)]
    apart = [twin(x) for x in batches]
    with several_batches(network, 3):
        together = network(torch.cat(batches))
    torch.testing.assert_close(together, torch.cat(apart))
    for got, wanted in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(got, wanted)  # the running statistics moved three times
    together.square().sum().backward()
    torch.cat(apart).square().sum().backward()
    for got, wanted in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)
    assert not torch.allclose(network(torch.cat(batches)), together)  # one batch is something else
