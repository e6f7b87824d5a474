"""What every model promises, so that one loop trains, scores and serves all of them."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import nn

from momkd import config
from momkd.nn.graph_attention import KernelChoice
from momkd.nn.processes import ALONE, Processes
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource


class BagClassifier(nn.Module):
    """Base of every model.

    Subclasses set the class attributes and implement :meth:`forward` and :meth:`losses`.

    Attributes
    ----------
    Options
        Frozen hyper-parameters; the defaults are the paper's numbers.
    presets
        Named sets of options that differ from the defaults: name -> changed fields.
    needs_rna
        Training without any RNA is refused.
    steps_on_rna_alone
        A case with RNA and no slide feeds a loss term; else such cases are shown to
        :meth:`prepare` only and no step is spent on them.
    needs_coordinates
        A bag without neighbours is refused.
    min_batch
        Fewest slides a step from which the model can learn what its paper says.
    order_matters
        The order of a bag's tiles changes the answer. A bag is in raster order, so a shuffled file
        changes nothing either way.
    training_only
        Names of submodules that only training uses (RNA towers, decoders). They are absent when
        ``dims.n_genes`` is None, and left out of what a predictor saves.
    keeps_training_side
        What ``training_only`` names is written beside the predictor, for who looks at what was
        learnt (``momkd memory``); no predictor reads it.
    has_kernels
        :meth:`use_kernels` makes a difference.
    is_divisible
        Several processes can share a batch: :meth:`losses` of a part of it (which may be empty)
        says in ``fed`` what each term is a mean over, no term relates samples to one another, and
        :meth:`after_step` adds up over ``processes`` what it takes from the batch.
    processes
        Who shares each batch; the loop sets it.
    """

    Options: ClassVar[type[config.Options]] = config.Options
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    needs_rna: ClassVar[bool] = False
    steps_on_rna_alone: bool = False
    needs_coordinates: ClassVar[bool] = False
    min_batch: ClassVar[int] = 1
    order_matters: ClassVar[bool] = False
    training_only: ClassVar[tuple[str, ...]] = ()
    keeps_training_side: ClassVar[bool] = False
    has_kernels: ClassVar[bool] = False
    is_divisible: ClassVar[bool] = False

    processes: Processes = ALONE
    start_notes: tuple[str, ...] = ()
    """What :meth:`prepare` found worth saying to the user."""

    def __init__(self, dims: Dims, options: config.Options) -> None:
        super().__init__()
        self.dims = dims
        self.options = options

    def forward(self, bag: Bag) -> Output:
        """Score one slide from histology only; no side effect."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides; the same numbers as one at a time, perhaps faster."""
        return [self(bag) for bag in bags]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the weighted loss terms of a batch, each a mean over the samples that feed it."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def prepare(self, samples: SampleSource) -> None:
        """Start from data (k-means of a memory, a teacher). Called once, before the first step.

        Randomness comes from torch's global generator, which the loop has seeded.
        """

    def after_step(self, losses: Losses) -> None:
        """Move the state that no gradient moves, after an optimiser step.

        Randomness comes from torch's global generator, seeded alike in all processes.
        """

    def diagnostics(self) -> dict[str, float]:
        """Give figures worth a column in ``history.csv``; called after each epoch's training."""
        return {}

    def use_kernels(self, choice: KernelChoice) -> None:
        """Compute graph attention in this way from now on; nothing here for most models."""

    def decay_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Split the trainable parameters into (decayed, not decayed) by weight decay.

        Matrices decay; biases, norms and scalars do not.
        """
        trainable = [p for p in self.parameters() if p.requires_grad]
        return [p for p in trainable if p.ndim >= 2], [p for p in trainable if p.ndim < 2]

    def serving_state(self) -> Iterator[tuple[str, Any]]:
        """Give the named tensors that prediction needs: the state without ``training_only``."""
        prefixes = tuple(f"{name}." for name in self.training_only)
        for name, tensor in self.state_dict().items():
            if not name.startswith(prefixes):
                yield name, tensor

    def training_state(self) -> Iterator[tuple[str, Any]]:
        """Give the named tensors that only training uses: what :meth:`serving_state` leaves."""
        prefixes = tuple(f"{name}." for name in self.training_only)
        for name, tensor in self.state_dict().items():
            if name.startswith(prefixes):
                yield name, tensor
