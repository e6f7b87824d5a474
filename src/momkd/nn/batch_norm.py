"""Batch normalisation that also takes a batch of one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d``, but one row in training is normalised by the running statistics.

    The variance of one row is 0; torch refuses it, and a last batch of one slide would end a run.
    """

    n_batches = 1  # see several_batches

    def forward(self, input: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Normalise each column."""
        if self.training and self.n_batches > 1:
            return torch.cat([self._one(batch) for batch in input.chunk(self.n_batches)])
        return self._one(input)

    def _one(self, input: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        if self.training and len(input) == 1:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, var = self.running_mean, self.running_var
            return batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        result: Tensor = super().forward(input)
        return result


@contextmanager
def several_batches(network: nn.Module, n_batches: int) -> Iterator[None]:
    """Let the rows a network is given be ``n_batches`` equal batches, one after another.

    Each is normalised by its own statistics, as if the network had been called once for each; every
    weight's gradient is computed once.
    """
    norms = [m for m in network.modules() if isinstance(m, BatchNorm)]
    for norm in norms:
        norm.n_batches = n_batches
    try:
        yield
    finally:
        for norm in norms:
            norm.n_batches = 1
