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
    """

    def __init__(self, n_genes: int, n_programmes: int) -> None:
        super().__init__()
        self.programmes = Programmes(n_genes, n_programmes)
        self.poles = ProgrammePoles(n_programmes)

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

    def terms(
        self,
        samples: Sequence[Sample],
        points: Float[Tensor, "n_samples dim_shared"],
        logits: Float[Tensor, "n_samples 2"],
        unit_slots: Float[Tensor, "2 n_programmes dim_shared"],
    ) -> tuple[dict[str, Tensor], int]:
        """Give ``programmes`` and ``odds`` of the samples with RNA, and how many these are.

        Parameters
        ----------
        samples
            With a slide each.
        points, logits
            Their slides in the space of the memory, and what the classifier says of them.
        unit_slots
            The memory.
        """
        paired = [i for i, s in enumerate(samples) if s.rna is not None]
        if not paired:
            return {}, 0
        rna = torch.stack([r for s in samples if (r := s.rna) is not None]).to(points.dtype)
        wanted, positive = self.programmes(rna)
        missed = self.poles(points[paired], unit_slots) - wanted
        odds = torch.stack([1 - positive, positive], dim=1)
        return {
            "programmes": (missed.square() * self.programmes.relevance).mean(),
            "odds": nn.functional.cross_entropy(logits[paired], odds),
        }, len(paired)

    def points(
        self, rna: Float[Tensor, "n n_genes"], unit_slots: Float[Tensor, "2 n_slots dim_shared"]
    ) -> Float[Tensor, "n dim_shared"]:
        """Give the directions in which such cases lie: each pair of poles by its programme."""
        programmes, _ = self.programmes(rna)
        return nn.functional.normalize(programmes @ (unit_slots[1] - unit_slots[0]), dim=1)
