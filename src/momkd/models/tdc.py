"""TDC: a teacher of slide and RNA, then a student of the slide taught by it and by its own mean.

Xing, Zhu, Chen, Yuan, Medical Image Analysis 91 (2024) 102990, "Comprehensive learning and adaptive
teaching"; after its published code. ``docs/models/tdc.md`` says what was adapted to slide bags.
"""

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from momkd import config
from momkd.models.base import BagClassifier
from momkd.nn.batch_norm import BatchNorm, several_batches
from momkd.nn.bilinear_fusion import BilinearFusion
from momkd.nn.contrast_memory import (
    Contrast,
    ContrastMemory,
    discrepancy_weight,
    refine_weights,
    soft_divergence,
)
from momkd.nn.moving_mean import MovingMean
from momkd.nn.pooling import GatedAttention, pack, segment_softmax, segment_sum
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleSource

_RNA_WIDTHS = (64, 48, 32)
_RNA_DROPOUT = 0.1
_TEACHERS = ("fused", "mean")


class TeacherOptions(config.Options):
    """How the teacher is trained (stage 1).

    Parameters
    ----------
    epochs, lr, weight_decay, batch_size
        Adam with an L2 penalty; the rate falls linearly to 0 over the epochs.
    patience
        Epochs without a better one after which the teacher's training ends.
    holdout
        Share of the paired training cases kept aside to choose the teacher's epoch.
    l1
        Weight of the sum of absolute weights of the RNA net.
    consistency
        Weight of each divergence from the teacher's own moving average.
    masking
        Learn from masked inputs too, from the second epoch on.
    masked_tiles, masked_genes
        Share of a slide's tiles, and number of genes, that are set to 0: those whose gradient
        raises the loss most.
    """

    epochs: int = Field(30, ge=1)
    patience: int = Field(10, ge=1)
    lr: float = Field(5e-4, gt=0)
    weight_decay: float = Field(4e-4, ge=0)
    batch_size: int = Field(16, ge=2)
    holdout: float = Field(0.2, gt=0, lt=1)
    l1: float = Field(3e-4, ge=0)
    consistency: float = Field(1.0, ge=0)
    masking: bool = True
    masked_tiles: float = Field(0.01, ge=0, lt=1)
    masked_genes: int = Field(5, ge=0)


class ContrastOptions(config.Options):
    """The contrastive terms (stage 2): P positives, K negatives, temperature, memory momentum."""

    n_positives: int = Field(6, ge=1)
    n_negatives: int = Field(4096, ge=1)
    temperature: float = Field(0.07, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)


class TDCOptions(config.Options):
    """Hyper-parameters of TDC.

    Parameters
    ----------
    dim, dim_attention, dim_feature
        Widths of an encoded tile, inside the attention, and of the feature that is distilled.
    dropout
        Rate in the slide net, its attention and the fusion.
    weight_kl, weight_contrast
        Weights of each divergence and of each contrastive term.
    momentum_mean
        Upper bound of the moving averages' decay, min(1 - 1/(t + 1), .).
    refine, refine_threshold
        Weigh the four terms by the agreement of their gradients; cosines above the threshold
        count, or, without one, positive cosines are summed.
    teacher, contrast
        Stage 1, and the contrastive terms.
    """

    dim: int = Field(512, ge=1)
    dim_attention: int = Field(256, ge=1)
    dim_feature: int = Field(128, ge=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    weight_kl: float = Field(1.0, ge=0)
    weight_contrast: float = Field(0.05, ge=0)
    momentum_mean: float = Field(0.99, ge=0, lt=1)
    refine: bool = True
    refine_threshold: float | None = 0.25
    teacher: TeacherOptions = Field(default_factory=TeacherOptions)
    contrast: ContrastOptions = Field(default_factory=ContrastOptions)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideReading:
    """What a slide net makes of packed slides."""

    features: Float[Tensor, "n_slides dim_feature"]
    logits: Float[Tensor, "n_slides n_classes"]
    attention: Float[Tensor, " n_tiles"]


class SlideNet(nn.Module):
    """Gated attention pooling, then Linear, batch norm and ReLU to the feature, then a classifier.

    Stands where the published code has a ResNet-18 on one region.
    """

    def __init__(self, dims: Dims, o: TDCOptions) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(dims.dim_in, o.dim), nn.ReLU(), nn.Dropout(o.dropout)
        )
        self.attention = GatedAttention(o.dim, o.dim_attention, dropout=o.dropout)
        self.project = nn.Linear(o.dim, o.dim_feature)
        self.norm = BatchNorm(o.dim_feature)
        self.head = nn.Linear(o.dim_feature, dims.n_classes)

    def forward(self, tiles: Float[Tensor, "n_tiles dim_in"], sizes: Sequence[int]) -> SlideReading:
        """Read slides whose tiles lie one after another, ``sizes`` tiles each."""
        encoded = self.encoder(tiles)
        counts = torch.tensor(sizes, device=tiles.device)
        segments = torch.repeat_interleave(counts, output_size=len(tiles))
        attention = segment_softmax(self.attention(encoded), segments, len(sizes))
        slides = segment_sum(attention[:, None] * encoded, segments, len(sizes))
        features = torch.relu(self.norm(self.project(slides)))
        return SlideReading(features=features, logits=self.head(features), attention=attention)


class RNANet(nn.Module):
    """Four Linear + ELU + AlphaDropout, ReLU, a classifier; weights N(0, 1/fan_in), biases 0."""

    def __init__(self, n_genes: int, dim_feature: int, n_classes: int) -> None:
        super().__init__()
        widths = [n_genes, *_RNA_WIDTHS, dim_feature]
        steps: list[nn.Module] = []
        for dim_in, dim_out in pairwise(widths):
            steps += [nn.Linear(dim_in, dim_out), nn.ELU(), nn.AlphaDropout(_RNA_DROPOUT)]
        self.encoder = nn.Sequential(*steps)
        self.head = nn.Linear(dim_feature, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)

    def forward(
        self, rna: Float[Tensor, "n n_genes"]
    ) -> tuple[Float[Tensor, "n dim_feature"], Float[Tensor, "n n_classes"]]:
        """Give features and logits."""
        features = torch.relu(self.encoder(rna))
        return features, self.head(features)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherReading:
    """What the teacher's three heads say of paired samples, and its fused feature."""

    fused: Float[Tensor, "n n_classes"]
    slide: Float[Tensor, "n n_classes"]
    rna: Float[Tensor, "n n_classes"]
    feature: Float[Tensor, "n dim_feature"]


class Teacher(nn.Module):
    """Slide net, RNA net and their gated bilinear fusion, each with a classifier."""

    auroc: Tensor

    def __init__(self, dims: Dims, o: TDCOptions) -> None:
        super().__init__()
        assert dims.n_genes is not None
        d = o.dim_feature
        self.slide_net = SlideNet(dims, o)
        self.rna_net = RNANet(dims.n_genes, d, dims.n_classes)
        self.fusion = BilinearFusion(
            d, d, dim_hidden=d, dim_out=d, dropout=o.dropout, batch_norm=True
        )
        self.head = nn.Linear(d, dims.n_classes)
        self.register_buffer("auroc", torch.tensor(math.nan))  # of the epoch that was kept

    def forward(
        self,
        tiles: Float[Tensor, "n_tiles dim_in"],
        sizes: Sequence[int],
        rna: Float[Tensor, "n n_genes"],
    ) -> TeacherReading:
        """Read paired samples."""
        slides = self.slide_net(tiles, sizes)
        features, rna_logits = self.rna_net(rna)
        fused = self.fusion(slides.features, features)
        return TeacherReading(
            fused=self.head(fused), slide=slides.logits, rna=rna_logits, feature=fused
        )


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
        tiles, sizes = self._pack(bags)
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
        tiles, sizes = self._pack([s.bag for s in slides if s.bag is not None])
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
            best = _TeacherTraining(self, samples).run()
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

    def _pack(self, bags: Sequence[Bag]) -> tuple[Float[Tensor, "n_tiles dim_in"], list[int]]:
        tiles, _ = pack([bag.embeddings for bag in bags], self.student.head.weight.dtype)
        return tiles, [len(bag) for bag in bags]

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


class _TeacherTraining:
    """Stage 1, from the start to the best epoch on cases kept aside."""

    def __init__(self, model: TDC, samples: SampleSource) -> None:
        self.model = model
        self.teacher = model.teacher
        self.options = model.options.teacher
        self.samples = samples
        keys = samples.keys
        paired = [i for i, k in enumerate(keys) if k.slide_id is not None and k.has_rna]
        self.aside = _keep_aside(samples, paired, self.options.holdout)
        kept = {keys[i].case_id for i in self.aside}
        self.own = [i for i, k in enumerate(keys) if k.case_id not in kept]
        labels = torch.tensor([keys[i].label for i in self.own])
        self.weights = 1.0 / torch.bincount(labels)[labels]

    def run(self) -> float:
        """Train; give the AUROC of the epoch that was kept, NaN where none could be computed."""
        o, teacher = self.options, self.teacher
        if not any(self.samples.keys[i].has_rna for i in self.own):
            return math.nan
        teacher.requires_grad_(True)
        mean = MovingMean(teacher, self.model.options.momentum_mean)
        optimizer = torch.optim.Adam(
            teacher.parameters(),
            lr=o.lr,
            betas=(0.9, 0.999),
            weight_decay=o.weight_decay,
            fused=True,
        )
        best, best_state, best_epoch = (-math.inf, -math.inf), None, 0
        for epoch in range(o.epochs):
            for group in optimizer.param_groups:  # the first epoch has 30/31 of the rate already
                group["lr"] = o.lr * (1 - (epoch + 1) / (o.epochs + 1))
            teacher.train()
            for batch in self._batches():
                optimizer.zero_grad()
                loss = self._loss(batch, mean, masked=o.masking and epoch > 0)
                if loss is None:
                    continue
                torch.autograd.backward(loss)
                optimizer.step()
                mean.move(teacher)
            teacher.eval()
            score = self._score()
            if score is None:
                best_state = teacher.state_dict()
            elif score > best:
                best, best_state, best_epoch = score, copy.deepcopy(teacher.state_dict()), epoch
            elif epoch - best_epoch >= o.patience:
                break
        if best_state is not None:
            teacher.load_state_dict(best_state)
        optimizer.zero_grad()
        teacher.requires_grad_(False).eval()
        return best[0] if math.isfinite(best[0]) else math.nan

    def _batches(self) -> Iterator[list[Sample]]:
        """Draw an epoch, classes equally often; a last batch that is not full is left out."""
        size = min(self.options.batch_size, len(self.own))
        drawn = torch.multinomial(self.weights, len(self.own), replacement=True).tolist()
        stream = iter(self.samples.iterate([self.own[i] for i in drawn]))
        while len(batch := list(islice(stream, size))) == size:
            yield batch

    def _loss(self, batch: Sequence[Sample], mean: MovingMean, *, masked: bool) -> Tensor | None:
        o, teacher, parts = self.options, self.teacher, []
        paired = [s for s in batch if s.bag is not None and s.rna is not None]
        slides = [s for s in batch if s.bag is not None and s.rna is None]
        rna_only = [s for s in batch if s.bag is None]
        if paired:
            tiles, sizes = self.model._pack([s.bag for s in paired if s.bag is not None])
            rna, labels, n = self._rna(paired), self._labels(paired), len(paired)
            views, genes = [tiles], [rna]
            if masked:
                hidden, silent = self._mask(tiles, sizes, rna, labels)
                views, genes = [tiles, hidden, tiles], [rna, rna, silent]
            with several_batches(teacher, len(views)):
                says = teacher(torch.cat(views), sizes * len(views), torch.cat(genes))
            with torch.no_grad():
                calm = mean(tiles, sizes, rna)
            for name in ("fused", "slide", "rna"):
                logits = getattr(says, name)[:n]
                parts.append(cross_entropy(logits, labels))
                parts.append(o.consistency * soft_divergence(logits, getattr(calm, name)).mean())
            again = says.fused.split(n)[1:]
            parts.extend(soft_divergence(logits, calm.fused).mean() for logits in again)
        if slides:
            tiles, sizes = self.model._pack([s.bag for s in slides if s.bag is not None])
            parts.append(
                cross_entropy(teacher.slide_net(tiles, sizes).logits, self._labels(slides))
            )
        if rna_only:
            logits = teacher.rna_net(self._rna(rna_only))[1]
            parts.append(cross_entropy(logits, self._labels(rna_only)))
        if not parts:
            return None
        size = torch.stack([p.abs().sum() for p in teacher.rna_net.parameters()]).sum()
        return torch.stack([*parts, o.l1 * size]).sum()

    def _mask(
        self,
        tiles: Float[Tensor, "n_tiles dim_in"],
        sizes: list[int],
        rna: Float[Tensor, "n n_genes"],
        labels: Int64[Tensor, " n"],
    ) -> tuple[Float[Tensor, "n_tiles dim_in"], Float[Tensor, "n n_genes"]]:
        """Set to 0 what raises the loss of the fused head most, by signed gradient."""
        o = self.options
        self.teacher.eval()
        x, genes = tiles.detach().requires_grad_(), rna.detach().requires_grad_()
        loss = cross_entropy(self.teacher(x, sizes, genes).fused, labels, reduction="sum")
        by_tile, by_gene = torch.autograd.grad(loss, (x, genes))
        self.teacher.train()
        hidden, silent = tiles.clone(), rna.clone()
        start = 0
        for size, pull in zip(sizes, torch.split(by_tile.sum(dim=1), sizes), strict=True):
            n_hidden = max(1, int(o.masked_tiles * size)) if size > 1 and o.masked_tiles else 0
            hidden[start + pull.topk(n_hidden).indices] = 0
            start += size
        n_silent = min(o.masked_genes, rna.shape[1])
        silent.scatter_(1, by_gene.topk(n_silent, dim=1).indices, 0.0)
        return hidden, silent

    @torch.no_grad()
    def _score(self) -> tuple[float, float] | None:
        """Give AUROC and log-likelihood of the fused head on the cases kept aside."""
        if not self.aside:
            return None
        logits, labels = [], []
        stream = iter(self.samples.iterate(self.aside))
        while batch := list(islice(stream, self.options.batch_size)):
            tiles, sizes = self.model._pack([s.bag for s in batch if s.bag is not None])
            logits.append(self.teacher(tiles, sizes, self._rna(batch)).fused)
            labels += [s.label for s in batch]
        scores, truth = torch.cat(logits).float(), torch.tensor(labels)
        likelihood = -float(cross_entropy(scores.cpu(), truth))
        p = torch.softmax(scores, dim=1)[:, 1].cpu().numpy()
        return float(roc_auc_score(labels, p)), likelihood

    def _rna(self, samples: Sequence[Sample]) -> Float[Tensor, "n n_genes"]:
        weight = self.teacher.head.weight
        return torch.stack([r for s in samples if (r := s.rna) is not None]).to(weight)

    def _labels(self, samples: Sequence[Sample]) -> Int64[Tensor, " n"]:
        return torch.tensor([s.label for s in samples], device=self.teacher.head.weight.device)


def _keep_aside(samples: SampleSource, paired: Sequence[int], share: float) -> list[int]:
    """Choose paired cases of every class; none where a class has fewer than two."""
    keys = samples.keys
    cases: dict[int, list[str]] = {}
    for i in paired:
        names = cases.setdefault(keys[i].label, [])
        if keys[i].case_id not in names:
            names.append(keys[i].case_id)
    if len(cases) < 2 or min(map(len, cases.values())) < 2:
        return []
    aside: set[str] = set()
    for _, names in sorted(cases.items()):
        order = torch.randperm(len(names)).tolist()
        n_aside = min(max(1, round(share * len(names))), len(names) - 1)
        aside |= {names[i] for i in order[:n_aside]}
    return [i for i in paired if keys[i].case_id in aside]


def _key(slide_id: str) -> int:
    """Give a number that stands for a slide in a tensor: 63 bits of a digest."""
    return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") >> 1
