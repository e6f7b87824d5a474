"""A network that follows another: the moving average of its weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class MovingMean(nn.Module):
    """A copy of a network that no gradient moves; always in evaluation mode.

    After step t its weights are decay * own + (1 - decay) * followed, with decay
    min(1 - 1/(t + 1), ``momentum``). Statistics of batch norm are averaged alike (in the usual
    code they stay where they started).

    Parameters
    ----------
    followed
        The network to follow, and to start from.
    momentum
        Upper bound of the decay.
    """

    steps: Tensor

    def __init__(self, followed: nn.Module, momentum: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(followed).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.eval()

    def train(self, mode: bool = True) -> "MovingMean":
        """Stay in evaluation mode, whatever is asked."""
        super().train(False)
        return self

    @torch.no_grad()
    def move(self, followed: nn.Module) -> None:
        """Take one step towards the network as it is now."""
        self.steps += 1
        decay = min(1 - 1 / (int(self.steps) + 1), self.momentum)
        current = followed.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def forward(self, *args: Any) -> Any:
        """Ask the copy."""
        return self.network(*args)
