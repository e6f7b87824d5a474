"""MoMKD: slides and RNA aligned to one class memory; RNA teaches and is not needed to predict.

Guo et al., CVPR 2026, arXiv 2602.21395. ``docs/models/momkd.md`` says where paper and published
code differ and how the paper's contradictions are resolved.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from momkd import config
from momkd.models.base import BagClassifier
from momkd.models.momkd_options import CODE, PLUS, TEMPERATURE_RANGE, MoMKDOptions
from momkd.models.momkd_parts import make_encoder, make_head
from momkd.models.momkd_programmes import ProgrammeTeaching
from momkd.models.momkd_start import start_by_tiles
from momkd.nn.alignment import class_margin, margin_alignment
from momkd.nn.assignment import Assignment, SharedAssignments, nearest_slots
from momkd.nn.graph_attention import KernelChoice, TileGraph, pack_neighbours
from momkd.nn.memory import ClassMemory, SlotUsage, orthogonality
from momkd.nn.memory_reading import Question, Reading, attend, read_by_gate
from momkd.nn.pooling import GatedAttention, segment_softmax, segment_sum
from momkd.nn.slide_reading import read_slides
from momkd.nn.towers import GraphEncoder, RNATower
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource


class MoMKD(BagClassifier):
    """Momentum memory for knowledge distillation; two classes.

    Without ``dims.n_genes`` only what prediction needs is built; such a model cannot be trained.

    Parameters
    ----------
    dims
        Widths the data dictate.
    options
        Hyper-parameters.

    Attributes
    ----------
    start_notes
        What :meth:`prepare` had to make do with, one sentence each; empty if all was as asked.

    Raises
    ------
    ValueError
        Other than two classes.
    """

    Options: ClassVar[type[config.Options]] = MoMKDOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "code": CODE, "plus": PLUS}
    needs_rna: ClassVar[bool] = True
    steps_on_rna_alone: bool = True
    needs_coordinates: ClassVar[bool] = True
    keeps_training_side: ClassVar[bool] = True
    has_kernels: ClassVar[bool] = True
    is_divisible: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = (
        "slide_projection",
        "rna_encoder",
        "rna_decoder",
        "rna_projection",
        "programmes",
        "usage",
    )
    options: MoMKDOptions

    def __init__(self, dims: Dims, options: MoMKDOptions) -> None:
        super().__init__(dims, options)
        if dims.n_classes != 2:
            raise ValueError(f"MoMKD separates two classes, got {dims.n_classes}")
        o = options
        self.encoder = make_encoder(dims, o)
        self.tile_projection = nn.Linear(o.dim, o.dim_shared)
        self.memory = ClassMemory(
            dims.n_classes, o.n_slots, o.dim_shared, learned=o.memory_update == "learned"
        )
        taught = o.teaching == "programmes"
        self.gate = GatedAttention(o.dim, o.dim_gate, dropout=o.dropout) if taught else None
        self.log_temperature = (
            nn.Parameter(torch.tensor(math.log(o.temperature))) if o.learn_temperature else None
        )
        self.head = make_head(dims, o)
        self.start_notes: tuple[str, ...] = ()
        if dims.n_genes is not None:
            self.usage = SlotUsage(dims.n_classes, o.n_slots)
            if taught:
                self.steps_on_rna_alone = False
                self.programmes = ProgrammeTeaching(dims.n_genes, o.n_slots)
                return
            hidden, rate = o.dim_rna_hidden, o.dropout_rna
            self.slide_projection = nn.Linear(o.dim, o.dim_shared)
            self.rna_encoder = RNATower(dims.n_genes, hidden, o.dim_rna, dropout=rate)
            self.rna_decoder = RNATower(o.dim_rna, hidden, dims.n_genes, dropout=rate)
            self.rna_projection = nn.Linear(o.dim_rna, o.dim_shared)

    def forward(self, bag: Bag) -> Output:
        """Score one slide from its tiles and their neighbours.

        Raises
        ------
        ValueError
            A bag without neighbours.
        """
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass."""
        return self._answers(bags, self._read(bags, self.memory.unit()))

    @torch.no_grad()
    def read_slots(self, bag: Bag) -> tuple[Output, Float[Tensor, "n_tiles dim_shared"]]:
        """Score one slide, and give its tiles as unit vectors of the space of the memory.

        Their products with ``memory.unit()`` are what eq. 7 takes the maxima of.

        Raises
        ------
        ValueError
            A bag without neighbours.
        """
        reading = self._read([bag], self.memory.unit(), with_points=True)
        assert reading.points is not None
        return self._answers([bag], reading)[0], reading.points

    def slide_points(self, slides: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim_shared"]:
        """Give slide embeddings as unit vectors of the memory's space; a model that taught."""
        taught = self.options.teaching == "programmes"
        return normalize((self.tile_projection if taught else self.slide_projection)(slides), dim=1)

    def rna_points(self, rna: Float[Tensor, "n n_genes"]) -> Float[Tensor, "n dim_shared"]:
        """Give scaled expression as unit vectors of the memory's space; a model that taught."""
        if self.options.teaching == "programmes":
            return self.programmes.points(rna, self.memory.unit())
        return normalize(self.rna_projection(self.rna_encoder(rna)), dim=1)

    def _answers(self, bags: Sequence[Bag], reading: Reading) -> list[Output]:
        sizes = [len(bag) for bag in bags]
        attention = torch.split(reading.attention, sizes)
        evidence = torch.split(reading.evidence, sizes)
        rows = zip(self.head(reading.slides), attention, reading.slides, evidence, strict=True)
        return [Output(logits=y, attention=a, embedding=v, evidence=s) for y, a, v, s in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give ``ce``, ``memory``, ``align_wsi``, ``align_omics`` and ``reconstruction``.

        The classifier's gradient never reaches the memory, and slide and RNA never reach each
        other: they meet in the memory alone.

        Raises
        ------
        ValueError
            A model built without ``n_genes``, or a bag without neighbours.
        """
        if self.dims.n_genes is None:
            raise ValueError("MoMKD without n_genes is built to predict, not to learn")
        slides = [sample for sample in batch if sample.bag is not None]
        if self.options.teaching == "programmes":
            return self._programme_losses(slides)
        paired = [sample for sample in batch if sample.rna is not None]
        slots = self.memory.unit()
        of_slides: dict[str, Tensor] = {}
        of_rna: dict[str, Tensor] = {}
        tiles = vectors = self._assign(slots.new_empty(0, slots.shape[2]), self._labels([]), slots)
        if slides:
            of_slides, tiles = self._slide_terms(slides, slots)
        elif self.options.memory_loss == "paper":
            of_slides["memory"] = orthogonality(slots).sum()
        if paired:
            of_rna, vectors = self._rna_terms(paired, slots)
        fed = dict.fromkeys(of_slides, len(slides)) | dict.fromkeys(of_rna, len(paired))
        return self._weighed(of_slides | of_rna, fed, (tiles, vectors))

    def _weighed(
        self, terms: dict[str, Tensor], fed: dict[str, int], carry: tuple[Assignment, ...]
    ) -> Losses:
        weights = self.options.weights
        weighed = {name: getattr(weights, name) * term for name, term in terms.items()}
        return Losses(terms=weighed, carry=carry, fed=fed)

    def _programme_losses(self, slides: Sequence[Sample]) -> Losses:
        """Give ``ce``, ``memory``, ``programmes``, ``odds`` where slots are poles of programmes."""
        slots = self.memory.unit()
        if not slides:
            nothing = self._assign(slots.new_empty(0, slots.shape[2]), self._labels([]), slots)
            return Losses(terms={}, carry=(nothing,))
        bags = [s.bag for s in slides if s.bag is not None]
        reading = self._read(bags, slots, [s.label for s in slides])
        assert reading.nearest is not None
        points, logits = self.tile_projection(reading.slides), self.head(reading.slides)
        of_rna, n_paired = self.programmes.terms(slides, points, logits, slots)
        terms = {"ce": cross_entropy(logits, self._labels(slides))}
        terms["memory"] = orthogonality(slots).mean() / slots.shape[1] ** 2
        fed = dict.fromkeys(terms, len(slides)) | dict.fromkeys(of_rna, n_paired)
        return self._weighed(terms | of_rna, fed, (Assignment(slots=reading.nearest),))

    def prepare(self, samples: SampleSource) -> None:
        """Start the memory: by k-means of training tiles, or as poles of what their RNA says.

        What had to be made do with is noted in ``start_notes`` (T17).
        """
        if self.options.teaching == "programmes":
            self.start_notes = self.programmes.start(samples, self.memory)
            return
        was_training = self.training
        self.eval()
        slots = self.memory.unit()

        def project(bag: Bag) -> Tensor:
            points = self._read([bag.to(slots.device)], slots, with_points=True).points
            assert points is not None
            return points

        self.start_notes = start_by_tiles(self.memory, samples, self.options.start, project)
        self.train(was_training)

    def after_step(self, losses: Losses) -> None:
        """Re-normalise or average the memory, and count who used it."""
        if self.options.memory_update == "learned" and self.options.renormalise:
            self.memory.renormalise()
        points = SharedAssignments(losses.carry, self.processes)
        self.usage.count(points)
        if self.options.memory_update == "ema":
            self.memory.move(points, self.options.ema_momentum)
            self.usage.revive(self.memory, points, self.options.revive_after)

    def diagnostics(self) -> dict[str, float]:
        """Give the memory's use since the last call, how far its classes are apart, and tau."""
        figures = self.memory.closeness()
        figures["temperature"] = float(torch.as_tensor(self._temperature()).detach())
        if self.dims.n_genes is not None:
            figures.update(self.usage.take())
        return figures

    def use_kernels(self, choice: KernelChoice) -> None:
        """Compute the tiles' side in this way from now on."""
        self.encoder.kernels = choice

    def decay_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Split parameters for weight decay as ``options.decay`` says."""
        decayed, spared = super().decay_groups()
        if self.options.decay == "all":
            return decayed + spared, []
        slots = [p for p in decayed if p is self.memory.slots]
        return [p for p in decayed if p is not self.memory.slots], spared + slots

    def _temperature(self) -> Tensor | float:
        if self.log_temperature is None:
            return self.options.temperature
        return self.log_temperature.exp().clamp(*TEMPERATURE_RANGE)

    def _read(
        self,
        bags: Sequence[Bag],
        slots: Tensor,
        labels: Sequence[int] | None = None,
        *,
        with_points: bool = False,
    ) -> Reading:
        x, graph = self._pack(bags)
        question = Question(
            sizes=[len(bag) for bag in bags],
            slots=slots.detach(),
            targets=self._targets(slots).detach(),
            labels=labels,
            with_points=with_points,
        )
        projection, temperature = self.tile_projection, self._temperature()
        if self.gate is not None:
            tiles = self.encoder(x, graph)
            return read_by_gate(
                tiles, self.gate(tiles), (projection.weight, projection.bias), question
            )
        assert isinstance(self.encoder, GraphEncoder)
        return read_slides(self.encoder, projection, x, graph, temperature, question)

    def read_packed(
        self, x: Tensor, lists: Tensor, segments: Tensor, n_slides: int, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give logits of slides and attention of tiles, on tensors alone and step by step.

        Parameters
        ----------
        x
            (n_tiles, dim_in) embeddings.
        lists
            As of :func:`momkd.nn.graph_attention.listening_lists`.
        segments, n_slides
            The slide of each tile, and how many slides there are.
        slots
            The memory as unit vectors.
        """
        projection = self.tile_projection
        tiles = self.encoder(x, lists)
        if self.gate is not None:
            attention = segment_softmax(self.gate(tiles), segments, n_slides)
            slides = segment_sum(attention[:, None] * tiles, segments, n_slides)
            return self.head(slides), attention
        _, _, attention, slides = attend(
            tiles,
            (projection.weight, projection.bias),
            self._temperature(),
            slots.detach(),
            segments,
            n_slides,
        )
        return self.head(slides), attention

    def _pack(self, bags: Sequence[Bag]) -> tuple[Tensor, TileGraph]:
        """Join bags: embeddings as they are stored, and who hears whom."""
        neighbours = [bag.neighbours for bag in bags if bag.neighbours is not None]
        if len(neighbours) < len(bags):
            bare = next(bag.slide_id for bag in bags if bag.neighbours is None)
            raise ValueError(f"slide {bare}: MoMKD needs each tile's neighbours; the bag has none")
        parts = [bag.embeddings for bag in bags]
        graph = TileGraph(pack_neighbours(neighbours), self.options.edges)
        return parts[0] if len(parts) == 1 else torch.cat(parts), graph

    def _labels(self, samples: Sequence[Sample]) -> Tensor:
        labels = [s.label for s in samples]
        return torch.tensor(labels, dtype=torch.int64, device=self.memory.slots.device)

    def _slide_terms(
        self, samples: Sequence[Sample], slots: Tensor
    ) -> tuple[dict[str, Tensor], Assignment]:
        bags = [s.bag for s in samples if s.bag is not None]
        reading = self._read(bags, slots, [s.label for s in samples])
        assert reading.pulls is not None
        labels = self._labels(samples)
        shared = normalize(self.slide_projection(reading.slides), dim=1)
        terms = {
            "ce": cross_entropy(self.head(reading.slides), labels),
            "memory": self._memory_term(reading.pulls.mean(), orthogonality(slots), labels),
            "align_wsi": self._align(shared, labels, slots),
        }
        return terms, self._carried(reading, bags, labels)

    def _carried(self, reading: Reading, bags: Sequence[Bag], labels: Tensor) -> Assignment:
        """Keep of the tiles what ``after_step`` needs: their points move the memory only here."""
        assert reading.nearest is not None
        if self.options.memory_update != "ema" or reading.points is None:
            return Assignment(slots=reading.nearest)
        sizes = torch.tensor([len(bag) for bag in bags], device=labels.device)
        of_tiles = torch.repeat_interleave(labels, sizes, output_size=len(reading.nearest))
        points = reading.points.detach()
        return Assignment(slots=reading.nearest, points=points, labels=of_tiles)

    def _rna_terms(
        self, samples: Sequence[Sample], slots: Tensor
    ) -> tuple[dict[str, Tensor], Assignment]:
        rna = torch.stack([s.rna for s in samples if s.rna is not None])
        rna = rna.to(self.rna_projection.weight.dtype)
        labels = self._labels(samples)
        encoded = self.rna_encoder(rna)
        shared = normalize(self.rna_projection(encoded), dim=1)
        terms = {
            "align_omics": self._align(shared, labels, slots),
            "reconstruction": nn.functional.mse_loss(self.rna_decoder(encoded), rna),
        }
        return terms, self._assign(shared, labels, slots)

    def _targets(self, unit_slots: Tensor) -> Tensor:
        """Give the slots as tiles are drawn to them; the published code never normalises these."""
        return self.memory.slots if self.options.memory_loss == "code" else unit_slots

    def _assign(self, points: Tensor, labels: Tensor, slots: Tensor) -> Assignment:
        points = points.detach()
        nearest = nearest_slots(points, labels, self._targets(slots))
        return Assignment(slots=nearest, points=points, labels=labels)

    def _memory_term(self, pull: Tensor, spread: Tensor, labels: Tensor) -> Tensor:
        if self.options.memory_loss == "paper":
            return pull + spread.sum()
        own = spread.index_select(0, labels).mean()
        return pull / self.options.dim_shared + 10 / self.options.n_slots**2 * own

    def _align(self, shared: Tensor, labels: Tensor, slots: Tensor) -> Tensor:
        o = self.options
        delta = class_margin(shared, slots, o.tau_agg)
        return margin_alignment(delta, labels, scale=o.align_scale, margin=o.margin).mean()
