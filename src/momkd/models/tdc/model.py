"""Stage 2 of TDC: the student, taught by the frozen teacher and by its own moving average."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.models.tdc.networks import SlideNet, Teacher, TeacherReading, pack_tiles
from momkd.models.tdc.options import TDCOptions
from momkd.models.tdc.teacher import TeacherTraining
from momkd.nn.contrast_memory import (
    Contrast,
    ContrastMemory,
    discrepancy_weight,
    refine_weights,
    soft_divergence,
)
from momkd.nn.moving_mean import MovingMean
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource

_TEACHERS = ("fused", "mean")


class TDC(BagClassifier):
    """Two-stage distillation; the slide net alone serves.

    :meth:`prepare` trains the teacher and freezes it; ``losses`` teach the student. A slide without
    RNA feeds the classifier and the student's own mean; RNA without a slide the teacher's RNA net.

    Parameters
    ----------
    dims
        Widths the data dictate.
    options
        Hyper-parameters.
    """

    Options: ClassVar[type[config.Options]] = TDCOptions
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    needs_rna: ClassVar[bool] = True
    min_batch: ClassVar[int] = 4
    training_only: ClassVar[tuple[str, ...]] = (
        "teacher",
        "mean_student",
        "contrast",
    )
    options: TDCOptions

    def __init__(self, dims: Dims, options: TDCOptions) -> None:
        super().__init__(dims, options)
        self.student = SlideNet(dims, options)
        if dims.n_genes is None:
            return
        self.teacher = Teacher(dims, options).requires_grad_(False)
        self.mean_student = MovingMean(self.student, options.momentum_mean)
        d = options.dim_feature
        self.contrast = nn.ModuleDict(
            {name: ContrastMemory(d, d, d, **dict(options.contrast)) for name in _TEACHERS}
        )

    def train(self, mode: bool = True) -> "TDC":
        """Set training mode; the teacher stays in evaluation mode, unlike in the original."""
        super().train(mode)
        if self.dims.n_genes is not None:
            self.teacher.eval()
        return self

    def forward(self, bag: Bag) -> Output:
        """Score one slide."""
        return self.forward_packed([bag])[0]

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        """Score several slides in one pass."""
        tiles, sizes = pack_tiles(bags, self.student.head.weight)
        reading = self.student(tiles, sizes)
        parts = torch.split(reading.attention, sizes)
        rows = zip(reading.logits, parts, reading.features, strict=True)
        return [Output(logits=y, attention=a, embedding=f) for y, a, f in rows]

    def losses(self, batch: Sequence[Sample]) -> Losses:
        """Give ``ce``, and ``kl_*`` and ``contrast_*`` against the ``fused`` teacher and the mean.

        A slide that :meth:`prepare` has not seen has no place in the memories and feeds no
        contrastive term.

        Raises
        ------
        ValueError
            A model built without ``n_genes``.
        """
        if self.dims.n_genes is None:
            raise ValueError("TDC without n_genes is built to predict, not to learn")
        slides = [s for s in batch if s.bag is not None]
        if not slides:
            return Losses(terms={})
        tiles, sizes = pack_tiles(
            [s.bag for s in slides if s.bag is not None], self.student.head.weight
        )
        reading = self.student(tiles, sizes)
        lesson = self._lesson(slides, tiles, sizes)
        with torch.enable_grad():
            leaf = reading.features.detach().requires_grad_()
            apart, _ = self._terms(leaf, lesson)
            weights = self._refine(apart, leaf)
        terms, contrasts = self._terms(reading.features, lesson)
        o = self.options
        factors = {"kl": o.weight_kl, "contrast": o.weight_contrast}
        means = {"ce": terms["ce"][0].mean()}
        for name, (values, places) in terms.items():
            if name != "ce" and len(places):
                weighed = weights[name] * values
                means[name] = factors[name.partition("_")[0]] * weighed.mean()
        return Losses(terms=means, carry=contrasts)

    def prepare(self, samples: SampleSource) -> None:
        """Train the teacher on the paired samples, keep its best epoch, and start the memories."""
        with torch.enable_grad():
            best = TeacherTraining(self.teacher, self.options, samples).run()
        self.teacher.auroc.fill_(best)
        if math.isnan(best):
            note = "teacher: too few paired cases to choose its epoch by, the last one is used"
            self.start_notes = (note,)
        keys = [k for k in samples.keys if k.slide_id is not None]
        ids = torch.tensor([_key(k.slide_id or "") for k in keys])
        labels = torch.tensor([k.label for k in keys])
        for name in _TEACHERS:
            self._memory(name).start(ids, labels)

    def after_step(self, losses: Losses) -> None:
        """Move the student's mean and the memories."""
        self.mean_student.move(self.student)
        for name, contrast in (losses.carry or {}).items():
            self._memory(name).move(contrast)

    def diagnostics(self) -> dict[str, float]:
        """Give the teacher's AUROC on the cases kept aside in stage 1."""
        return {"teacher_auroc": float(self.teacher.auroc)}

    def _memory(self, name: str) -> ContrastMemory:
        memory = self.contrast[name]
        assert isinstance(memory, ContrastMemory)
        return memory

    @torch.no_grad()
    def _lesson(
        self, slides: Sequence[Sample], tiles: Float[Tensor, "n_tiles dim_in"], sizes: list[int]
    ) -> "_Lesson":
        device = tiles.device
        paired = [i for i, s in enumerate(slides) if s.rna is not None]
        mean = self.mean_student(tiles, sizes)
        fused: TeacherReading | None = None
        if paired:
            parts = torch.split(tiles, sizes)
            rna = torch.stack([r for s in slides if (r := s.rna) is not None]).to(tiles.dtype)
            chosen = torch.cat([parts[i] for i in paired])
            fused = self.teacher(chosen, [sizes[i] for i in paired], rna)
        keys = torch.tensor([_key(s.bag.slide_id) for s in slides if s.bag], device=device)
        places = torch.tensor(paired, dtype=torch.int64, device=device)
        everyone = torch.arange(len(slides), device=device)
        teachers = {"mean": (everyone, mean.logits, mean.features)}
        if fused is not None:
            teachers["fused"] = (places, fused.fused, fused.feature)
        lessons = {}
        for name, (who, logits, features) in teachers.items():
            memory = self._memory(name)
            rows = memory.rows(keys[who])
            known = rows >= 0
            rows = rows[known]
            lessons[name] = _TeacherSays(
                places=who,
                logits=logits,
                features=features[known],
                memory_places=who[known],
                known=known,
                rows=rows,
                negatives=memory.draw_negatives(rows),
            )
        return _Lesson(
            labels=torch.tensor([s.label for s in slides], device=device), teachers=lessons
        )

    def _terms(
        self, features: Float[Tensor, "n dim_feature"], lesson: "_Lesson"
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Contrast]]:
        """Give each term's values and the slides they belong to, unweighted."""
        logits = self.student.head(features)
        everyone = torch.arange(len(features), device=features.device)
        terms = {"ce": (cross_entropy(logits, lesson.labels, reduction="none"), everyone)}
        contrasts = {}
        for name, says in lesson.teachers.items():
            own = logits[says.places]
            terms[f"kl_{name}"] = (soft_divergence(own, says.logits), says.places)
            if not len(says.rows):
                continue
            who = says.memory_places
            contrast = self._memory(name)(features[who], says.features, says.rows, says.negatives)
            weight = discrepancy_weight(logits[who], says.logits[says.known], lesson.labels[who])
            terms[f"contrast_{name}"] = (weight * contrast.losses, who)
            contrasts[name] = contrast
        return terms, contrasts

    def _refine(
        self, terms: dict[str, tuple[Tensor, Tensor]], leaf: Float[Tensor, "n dim_feature"]
    ) -> dict[str, Tensor]:
        """Give the weight of every value of every term (GK-Refine)."""
        if not self.options.refine:
            return {name: torch.ones_like(values).detach() for name, (values, _) in terms.items()}
        pulls = [
            torch.autograd.grad(values.sum(), leaf, retain_graph=True)[0]
            for values, _ in terms.values()
        ]
        weights = refine_weights(torch.stack(pulls), self.options.refine_threshold)
        return {
            name: row[places]
            for row, (name, (_, places)) in zip(weights, terms.items(), strict=True)
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TeacherSays:
    """One teacher's word on the slides at ``places``, and on those the memory holds."""

    places: Int64[Tensor, " n"]
    logits: Float[Tensor, "n n_classes"]
    features: Float[Tensor, "n_known dim_feature"]
    memory_places: Int64[Tensor, " n_known"]
    known: Tensor
    rows: Int64[Tensor, " n_known"]
    negatives: Int64[Tensor, "n_known n_negatives"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lesson:
    labels: Int64[Tensor, " n"]
    teachers: dict[str, _TeacherSays]


def _key(slide_id: str) -> int:
    """Give a number that stands for a slide in a tensor: 63 bits of a digest."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") >> 1
