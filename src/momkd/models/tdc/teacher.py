"""Stage 1 of TDC: the teacher of slide and RNA is trained, and its best epoch kept."""

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from momkd.models.tdc.networks import Teacher, pack_tiles
from momkd.models.tdc.options import TDCOptions
from momkd.nn.batch_norm import several_batches
from momkd.nn.contrast_memory import soft_divergence
from momkd.nn.moving_mean import MovingMean
from momkd.types import Sample, SampleSource


class TeacherTraining:
    """Stage 1, from the start to the best epoch on cases kept aside."""

    def __init__(self, teacher: Teacher, options: TDCOptions, samples: SampleSource) -> None:
        self.teacher = teacher
        self.options = options.teacher
        self.momentum = options.momentum_mean
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
        mean = MovingMean(teacher, self.momentum)
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
            tiles, sizes = self._pack(paired)
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
            tiles, sizes = self._pack(slides)
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
            tiles, sizes = self._pack(batch)
            logits.append(self.teacher(tiles, sizes, self._rna(batch)).fused)
            labels += [s.label for s in batch]
        scores, truth = torch.cat(logits).float(), torch.tensor(labels)
        likelihood = -float(cross_entropy(scores.cpu(), truth))
        p = torch.softmax(scores, dim=1)[:, 1].cpu().numpy()
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(labels, p)), likelihood

    def _pack(self, samples: Sequence[Sample]) -> tuple[Float[Tensor, "n_tiles dim_in"], list[int]]:
        bags = [s.bag for s in samples if s.bag is not None]
        return pack_tiles(bags, self.teacher.head.weight)

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
