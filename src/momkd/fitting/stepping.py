"""One step of learning: losses, gradient, clipping, a move, and the state no gradient moves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from momkd.errors import ModelError
from momkd.fitting.device import Fabric, machine_faults
from momkd.fitting.division import Adder
from momkd.fitting.optimizers import OptimizerName, make_optimizer
from momkd.fitting.sampling import Purpose, derive_seed
from momkd.models.base import BagClassifier
from momkd.nn.processes import ALONE, Processes
from momkd.types import Losses, Sample


class Stepper:
    """Moves a model by one batch at a time; its state beside the model's is the optimiser's.

    Parameters
    ----------
    model
        The model, on the fabric's device.
    fabric
        Device and precision.
    processes
        Who shares each batch.
    seed
        Of the training; each step has its own randomness, derived from its place.
    optimizer, lr, betas, weight_decay
        Decay applies to the first of the model's ``decay_groups`` only.
    clip_norm
        Bound of the gradient's norm over all parameters; None for no bound.
    """

    def __init__(
        self,
        model: BagClassifier,
        fabric: Fabric,
        processes: Processes = ALONE,
        *,
        seed: int,
        optimizer: OptimizerName,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        clip_norm: float | None,
    ) -> None:
        self._model = model
        self._fabric = fabric
        self._rank = processes.rank
        self._seed = seed
        self._clip_norm = math.inf if clip_norm is None else clip_norm  # inf: only measure
        decayed, free = model.decay_groups()
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        self._trainable: list[Tensor] = [*decayed, *free]
        self._adder = Adder(processes, self._trainable)
        self._optimizer = make_optimizer(optimizer, groups, lr=lr, betas=betas)

    @property
    def has_work(self) -> bool:
        """Whether the model has anything that a gradient moves."""
        return bool(self._trainable)

    def take(self, part: Sequence[Sample], epoch: int, step: int, names: str) -> dict[str, float]:
        """Learn from a batch and give its figures: ``loss``, ``loss_<term>``, ``grad_norm``.

        Parameters
        ----------
        part
            What this process has of the batch, in its order; all of it where it is alone.
        epoch, step
            Where the training stands.
        names
            Of the whole batch, for messages.

        Raises
        ------
        ModelError
            T06 a figure is not finite; the weights are as they were before.
        MachineError
            T05 out of memory, T18 the device failed.
        """
        torch.manual_seed(derive_seed(self._seed, Purpose.STEP, epoch, step, rank=self._rank))
        with machine_faults(names):
            with self._fabric.autocast():
                losses = self._model.losses(part)
                terms, all_terms = self._adder.weigh(losses)
            self._optimizer.zero_grad()
            own = Losses(terms=terms)
            if terms and own.total.requires_grad:  # an empty part may have nothing to learn from
                self._fabric.backward(own.total)
            whole = Losses(terms=self._adder.add_up(terms, all_terms))
            norm = clip_grad_norm_(self._trainable, self._clip_norm)
            figures = {f"loss_{name}": term for name, term in whole.terms.items()}
            read = _read_all({"loss": whole.total, **figures, "grad_norm": norm})
            _require_finite(read, names, epoch, step)
            self._optimizer.step()
            torch.manual_seed(derive_seed(self._seed, Purpose.AFTER_STEP, epoch, step))
            with torch.no_grad():
                self._model.after_step(losses)
        return read

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = value

    def state_dict(self) -> dict[str, Any]:
        """Give the optimiser's state."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an optimiser's state."""
        self._optimizer.load_state_dict(state)


def _read_all(figures: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars from the device in one go: the only time a step waits for it."""
    values = torch.stack([v.detach().reshape(()).float() for v in figures.values()]).tolist()
    return dict(zip(figures, values, strict=True))


def _require_finite(figures: Mapping[str, float], names: str, epoch: int, step: int) -> None:
    bad = [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        what = f"{', '.join(bad)} at epoch {epoch} step {step}; the last good checkpoint stays"
        remedy = "lower fit.lr, or examine the slide with momkd inspect"
        raise ModelError.of("T06", names, what, remedy)
