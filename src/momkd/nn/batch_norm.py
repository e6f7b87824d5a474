"""Batch normalisation that also takes a batch of one."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d``, but one row in training is normalised by the running statistics.

    The variance of one row is 0; torch refuses it, and a last batch of one slide would end a run.
    """

    def forward(self, input: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Normalise each column."""
        if self.training and len(input) == 1:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, var = self.running_mean, self.running_var
            return batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        result: Tensor = super().forward(input)
        return result
