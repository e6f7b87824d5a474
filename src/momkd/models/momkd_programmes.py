"""MoMKD taught by programmes of expression instead of by classes: the preset ``plus``, our variant.

The slots of the two classes are the poles of programmes; where a case's RNA lies between them, its
slide must lie too. docs/models/momkd.md has the equations, docs/lab-log.md how it was found.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from momkd.nn.memory import ClassMemory
from momkd.nn.programmes import ProgrammePoles, Programmes
from momkd.types import Sample, SampleSource


class ProgrammeTeaching(nn.Module):
    """What RNA says of slides, in programmes; it has no RNA network, and no gradient of its own.

    Parameters
    ----------
    n_genes, n_programmes
        Width of the scaled expression; slots a class.
    soften
        Share of P(positive | RNA) in the label that a classifier learns.
    """

    def __init__(self, n_genes: int, n_programmes: int, soften: float) -> None:
        super().__init__()
        self.programmes = Programmes(n_genes, n_programmes)
        self.poles = ProgrammePoles(n_programmes)
        self.soften = soften

    def start(self, samples: SampleSource, memory: ClassMemory) -> tuple[str, ...]:
        """Find the programmes of the training cases, and set the poles; give what is to be said.

        Every case with RNA counts once, those without a slide too.
        """
        memory.start_poles()
        places = {key.case_id: i for i, key in enumerate(samples.keys) if key.has_rna}
        found = {i: rna for i in places.values() if (rna := samples.rna(i)) is not None}
        if not found:
            return ("no training case has RNA: there are no programmes to teach",)
        rna = torch.stack(list(found.values())).to(memory.slots)
        labels = torch.tensor([samples.keys[i].label for i in found], device=rna.device)
        n_found, n_slots = self.programmes.start(rna, labels), memory.slots.shape[1]
        if n_found < n_slots:
            return (f"RNA has {n_found} programmes for {n_slots} pairs of poles",)
        return ()

    def teach(
        self,
        samples: Sequence[Sample],
        points: Float[Tensor, "n_samples dim_shared"],
        unit_slots: Float[Tensor, "2 n_programmes dim_shared"],
    ) -> tuple[Float[Tensor, "n_samples 2"], Tensor | None, int]:
        """Give the classifier's targets, the term of the programmes, and how many fed it.

        Parameters
        ----------
        samples
            With a slide each; those without RNA are taught by their label alone.
        points
            Their slides in the space of the memory.
        unit_slots
            The memory.
        """
        labels = torch.tensor([s.label for s in samples], device=points.device)
        target = nn.functional.one_hot(labels, 2).to(points.dtype)
        paired = [i for i, s in enumerate(samples) if s.rna is not None]
        if not paired:
            return target, None, 0
        rna = torch.stack([r for s in samples if (r := s.rna) is not None]).to(points.dtype)
        wanted, positive = self.programmes(rna)
        softer = torch.stack([1 - positive, positive], dim=1)
        target[paired] = (1 - self.soften) * target[paired] + self.soften * softer
        missed = self.poles(points[paired], unit_slots) - wanted
        return target, (missed.square() * self.programmes.relevance).mean(), len(paired)
