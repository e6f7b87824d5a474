"""The control every comparison needs: a linear classifier of the mean embedding.

If a model does not beat it, attention has not been shown to matter.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource

MAX_STEPS = 5_000


class MeanLogisticOptions(config.Options):
    """Hyper-parameters of the mean-embedding classifier.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty, as scikit-learn counts it.
    balanced
        Weigh classes inversely to their frequency. Off: the plain model, whose probabilities keep
        the training prevalence.
    """

    C: float = Field(1.0, gt=0)
    balanced: bool = False


class MeanLogistic(BagClassifier):
    """L2-regularised logistic regression on the standardised mean embedding of a slide.

    Nothing is trained by gradient: :meth:`prepare` fits it, on training slides alone, and the
    fitted numbers are buffers. Attention is uniform. Before that, all logits are 0.
    """

    Options: ClassVar[type[config.Options]] = MeanLogisticOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    is_divisible: ClassVar[bool] = True
    options: MeanLogisticOptions
    centre: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, dims: Dims, options: MeanLogisticOptions) -> None:
        super().__init__(dims, options)
        self.register_buffer("centre", torch.zeros(dims.dim_in))
        self.register_buffer("scale", torch.ones(dims.dim_in))
        self.register_buffer("weight", torch.zeros(dims.n_classes, dims.dim_in))
        self.register_buffer("bias", torch.zeros(dims.n_classes))

    def forward(self, bag: Bag) -> Output:
        """Score one slide."""
        mean = bag.embeddings.to(self.weight.dtype).mean(dim=0)
        uniform = mean.new_full((len(bag),), 1 / len(bag))
        return Output(logits=self.logits(mean), attention=uniform, embedding=mean)

    def logits(self, mean: Float[Tensor, " dim_in"]) -> Float[Tensor, " n_classes"]:
        """Score a mean embedding."""
        return self.weight @ ((mean - self.centre) / self.scale) + self.bias

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give the cross-entropy ``ce``, to be watched: it has no gradient."""
        slides = [(self(s.bag).logits, s.label) for s in batch if s.bag is not None]
        if not slides:
            return Losses(terms={})
        labels = torch.tensor([label for _, label in slides], device=self.bias.device)
        entropy = cross_entropy(torch.stack([y for y, _ in slides]), labels)
        return Losses(terms={"ce": entropy}, fed={"ce": len(slides)})

    def prepare(self, samples: SampleSource) -> None:
        """Fit on all training slides: standardise their means, then solve to convergence."""
        places = [i for i, key in enumerate(samples.keys) if key.slide_id is not None]
        bags = (samples[i].bag for i in places)  # one slide in memory at a time
        means = np.stack(
            [b.embeddings.double().mean(0).cpu().numpy() for b in bags if b is not None]
        )
        labels = np.array([samples.keys[i].label for i in places])
        centre, spread = means.mean(axis=0), means.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        from sklearn.linear_model import LogisticRegression

        solver = LogisticRegression(
            C=self.options.C,
            class_weight="balanced" if self.options.balanced else None,
            max_iter=MAX_STEPS,
            tol=1e-8,
        )
        solver.fit((means - centre) / scale, labels)
        coefficients, intercepts = solver.coef_, solver.intercept_
        if len(coefficients) == 1:  # two classes: scikit-learn gives the log-odds of the second
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
        found = (centre, scale, coefficients, intercepts)
        with torch.no_grad():
            for name, value in zip(("centre", "scale", "weight", "bias"), found, strict=True):
                getattr(self, name).copy_(torch.from_numpy(value))
