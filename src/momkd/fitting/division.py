"""A batch divided over processes by sample, and what they found added up to that of the whole.

A loss term is a mean over the samples that feed it. Of its gradient a process has that of the mean
over its own part; weighed by the part's share of those samples and summed over processes, it is
the gradient of the whole batch, whatever the parts' sizes. The sum is one flat vector in a fixed
order rather than buckets filled as gradients arrive: of three processes or more, the order of
additions would else depend on how long a training has been running, and going on with it would
not be exact.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from momkd.errors import ConfigError, IntegrityError
from momkd.models.base import BagClassifier
from momkd.nn.processes import Processes
from momkd.types import Losses

T = TypeVar("T")


def own_part(whole: Sequence[T], processes: Processes) -> Sequence[T]:
    """Give this process's part: consecutive, the first ones the larger; it may be empty."""
    first, after = (
        -(-len(whole) * rank // processes.size) for rank in (processes.rank, processes.rank + 1)
    )
    return whole[first:after]


def require_divisible(name: str, cls: type[BagClassifier], devices: int) -> None:
    """Turn away a model whose batch cannot be divided.

    Raises
    ------
    ConfigError
        G18 its losses relate the samples of a batch to one another.
    """
    if devices > 1 and not cls.is_divisible:
        what = f"{devices} processes cannot share a batch of {name}: its losses relate the samples"
        raise ConfigError.of("G18", "fit.devices", what, "set fit.devices: 1 for this model")


class Adder:
    """Adds up over processes what each found on its part of a batch; alone it changes nothing.

    Parameters
    ----------
    processes
        Who shares a batch.
    parameters
        Whose gradients are added, in this order.
    """

    def __init__(self, processes: Processes, parameters: Sequence[Tensor]) -> None:
        self._processes = processes
        self._parameters = parameters

    def weigh(self, losses: Losses) -> tuple[dict[str, Tensor], list[str]]:
        """Give each own term times its part of the batch's, and the names of all terms there are.

        A term that no sample feeds anywhere is the same in all processes, and counts once. A term
        that others' samples alone feed is left out here.
        """
        if self._processes.size == 1:
            return losses.terms, list(losses.terms)
        found = self._processes.collect({name: losses.fed[name] for name in losses.terms})
        names = list(dict.fromkeys(name for fed in found for name in fed))
        weighed = {}
        for name, term in losses.terms.items():
            counts = [fed[name] for fed in found if name in fed]
            n = sum(counts)
            share = losses.fed[name] / n if n else 1 / len(counts)
            if share:
                weighed[name] = share * term
        return weighed, names

    def add_up(self, terms: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Give every process the gradients and terms of the whole batch.

        A parameter that no process has a gradient of keeps none, as it would in one process.
        """
        if self._processes.size == 1:
            return dict(terms)
        parameters = self._parameters
        like = parameters[0]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        has_one = like.new_tensor([p.grad is not None for p in parameters])
        zero = like.new_zeros(())
        values = torch.stack([terms.get(name, zero).detach().to(like) for name in names])
        flat = torch.cat([*(g.flatten().to(like) for g in gradients), has_one, values])
        sizes = [*(p.numel() for p in parameters), len(parameters), len(names)]
        *sums, has_any, whole = torch.split(self._processes.sum(flat), sizes)
        for parameter, total, any_has in zip(parameters, sums, has_any.tolist(), strict=True):
            parameter.grad = total.view_as(parameter).to(parameter).clone() if any_has else None
        return dict(zip(names, whole, strict=True))


def require_equal(model: nn.Module, processes: Processes, epoch: int) -> None:
    """Make sure that all processes hold the same state, to the bit.

    Raises
    ------
    IntegrityError
        T20 they do not.
    """
    if processes.size == 1:
        return
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + content.numpy().tobytes())
    if len(set(processes.collect(digest.hexdigest()))) > 1:
        what = f"the {processes.size} processes hold different weights after epoch {epoch}"
        remedy = "give the same command to go on from before; if it recurs, set fit.devices: 1"
        raise IntegrityError.of("T20", "training", what, remedy)
