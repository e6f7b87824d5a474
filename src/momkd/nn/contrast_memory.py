"""Contrastive distillation against a memory of all training samples, and what weighs it.

TDC (Xing et al., Medical Image Analysis 2024): local topology-preserving and
discrepancy-eliminating contrastive distillation, and the refinement of several teachers'
gradients. Implemented from a description of the published code.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

_UNSET = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """Losses of one batch, and what the memory takes from it afterwards."""

    losses: Float[Tensor, " n"]
    rows: Int64[Tensor, " n"]
    student: Float[Tensor, "n dim"]
    teacher: Float[Tensor, "n dim"]
    scale: Float[Tensor, "2"]


class ContrastMemory(nn.Module):
    """One unit vector a training sample on either side, and two learned embeddings.

    For an anchor e of one side, against the memory m of the other: x = exp(e.m / temperature) / Z;
    D+ = x / (x + K/n) for its positives, D- = (K/n) / (x + K/n) for its K negatives; the loss is
    -(sum_p s_p ln D+_p / sum_p s_p + sum_k ln D-_k). Positives are the ``n_positives`` entries most
    cosine-similar to the sample's own entry after the similarity s of other classes is set to 0;
    the first is the sample itself. Z is n times the mean of exp(.) over the first batch, one a
    direction, and fixed from then on. Both directions are added.

    Parameters
    ----------
    dim_student, dim_teacher, dim
        Widths of the features and of the embeddings.
    n_positives, n_negatives
        P and K; both are bounded by the number of samples, so that no negative is drawn twice.
    temperature
        Of the products.
    momentum
        Share of the old entry in an update.
    """

    keys: Int64[Tensor, " n"]
    labels: Int64[Tensor, " n"]
    student_side: Float[Tensor, "n dim"]
    teacher_side: Float[Tensor, "n dim"]
    scale: Float[Tensor, "2"]

    def __init__(
        self,
        dim_student: int,
        dim_teacher: int,
        dim: int,
        *,
        n_positives: int,
        n_negatives: int,
        temperature: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.embed_student = nn.Linear(dim_student, dim)
        self.embed_teacher = nn.Linear(dim_teacher, dim)
        self.n_positives = n_positives
        self.n_negatives = n_negatives
        self.temperature = temperature
        self.momentum = momentum
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("student_side", torch.zeros(0, dim))
        self.register_buffer("teacher_side", torch.zeros(0, dim))
        self.register_buffer("scale", torch.full((2,), _UNSET))

    @torch.no_grad()
    def start(self, keys: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> None:
        """Give every sample a random unit vector on either side, from torch's generator."""
        order = torch.argsort(keys)
        place = self.scale.device
        self.keys, self.labels = keys[order].to(place), labels[order].to(place)
        dim = self.student_side.shape[1]
        for name in ("student_side", "teacher_side"):
            drawn = 2 * torch.rand(len(keys), dim) - 1
            setattr(self, name, normalize(drawn, dim=1).to(self.scale))
        self.scale.fill_(_UNSET)

    def rows(self, keys: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Give the samples' places in the memory; -1 for one it does not hold."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        found = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[found] == keys, found, -1)

    def forward(
        self,
        student: Float[Tensor, "n dim_student"],
        teacher: Float[Tensor, "n dim_teacher"],
        rows: Int64[Tensor, " n"],
        negatives: Int64[Tensor, "n n_negatives"],
    ) -> Contrast:
        """Give the loss of each sample, without changing the memory."""
        ours = normalize(self.embed_student(student), dim=1)
        theirs = normalize(self.embed_teacher(teacher), dim=1)
        sides = ((ours, self.teacher_side), (theirs, self.student_side))
        losses, scales = [], []
        for scale, (anchors, side) in zip(self.scale, sides, strict=True):
            loss, used = self._direction(anchors.to(side.dtype), side, rows, negatives, scale)
            losses.append(loss)
            scales.append(used)
        return Contrast(
            losses=losses[0] + losses[1],
            rows=rows,
            student=ours.detach(),
            teacher=theirs.detach(),
            scale=torch.stack(scales),
        )

    def draw_negatives(self, rows: Int64[Tensor, " n"]) -> Int64[Tensor, "n n_negatives"]:
        """Draw, for each sample, distinct others of whatever class."""
        n_others = max(0, len(self.keys) - 1)
        n_drawn = min(self.n_negatives, n_others)
        if n_drawn == n_others:
            drawn = torch.arange(n_others).expand(len(rows), n_others)
        else:
            drawn = torch.rand(len(rows), n_others).argsort(dim=1)[:, :n_drawn]
        drawn = drawn.to(rows.device)
        return drawn + (drawn >= rows[:, None])

    @torch.no_grad()
    def move(self, contrast: Contrast) -> None:
        """Blend the batch into the memory; a sample drawn twice is blended twice."""
        self.scale.copy_(contrast.scale)
        for name in ("student", "teacher"):
            side = getattr(self, f"{name}_side")
            for row, vector in zip(contrast.rows.tolist(), getattr(contrast, name), strict=True):
                mixed = self.momentum * side[row] + (1 - self.momentum) * vector
                side[row] = normalize(mixed, dim=0)

    def _direction(
        self,
        anchors: Float[Tensor, "n dim"],
        side: Float[Tensor, "n_samples dim"],
        rows: Int64[Tensor, " n"],
        negatives: Int64[Tensor, "n n_negatives"],
        scale: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, ""]]:
        n_samples, n_negatives = len(side), negatives.shape[1]
        with torch.no_grad():
            own_class = self.labels[None] == self.labels[rows, None]
            similarity = (side[rows] @ side.T) * own_class
            closeness, positives = similarity.topk(min(self.n_positives, n_samples), dim=1)
        products = torch.exp(anchors @ side.T / self.temperature)
        chosen = torch.cat([positives, negatives], dim=1)
        x = products.gather(1, chosen)
        used = torch.where(scale == _UNSET, n_samples * x.detach().mean(), scale)
        x = x / used
        noise = n_negatives / n_samples
        n_positives = positives.shape[1]
        pulled = torch.log(x[:, :n_positives] / (x[:, :n_positives] + noise))
        pushed = torch.log(noise / (x[:, n_positives:] + noise))
        attraction = (closeness * pulled).sum(dim=1) / closeness.sum(dim=1)
        return -(attraction + pushed.sum(dim=1)), used

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **more: Any
    ) -> None:
        # how many samples there are is known to `start` and to the saved state alone
        for name in ("keys", "labels", "student_side", "teacher_side"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                own = getattr(self, name)
                setattr(self, name, own.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)


def soft_divergence(
    student_logits: Float[Tensor, "n n_classes"], teacher_logits: Float[Tensor, "n n_classes"]
) -> Float[Tensor, " n"]:
    """Give sum_c p_T (ln p_T - ln p_S) of each sample; the teacher's side is a constant."""
    teacher = torch.log_softmax(teacher_logits.detach(), dim=1)
    return (teacher.exp() * (teacher - torch.log_softmax(student_logits, dim=1))).sum(dim=1)


def discrepancy_weight(
    student_logits: Float[Tensor, "n n_classes"],
    teacher_logits: Float[Tensor, "n n_classes"],
    labels: Int64[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Give 1 + clip(margin_T - margin_S, 0, 1): more where the teacher is the surer of the truth.

    A margin is ln p(true class) - ln of the largest other p.
    """

    def margin(logits: Float[Tensor, "n n_classes"]) -> Float[Tensor, " n"]:
        log_p = torch.log_softmax(logits.detach(), dim=1)
        true = log_p.gather(1, labels[:, None]).squeeze(1)
        others = log_p.scatter(1, labels[:, None], -torch.inf)
        return true - others.amax(dim=1)

    return 1 + (margin(teacher_logits) - margin(student_logits)).clamp(0, 1)


def refine_weights(
    gradients: Float[Tensor, "n_losses n dim"], threshold: float | None
) -> Float[Tensor, "n_losses n"]:
    """Weigh each loss by how many losses pull the sample's feature its way.

    With a threshold: the number of losses whose gradient has a cosine above it, the loss itself
    included; without: the sum of the positive cosines.
    """
    unit = normalize(gradients.detach().transpose(0, 1), dim=2)
    cosine = unit @ unit.transpose(1, 2)
    itself = torch.eye(len(gradients), dtype=torch.bool, device=cosine.device)
    cosine = cosine.masked_fill(itself, 1.0)
    agreeing = cosine.clamp(min=0) if threshold is None else (cosine > threshold).to(cosine)
    return agreeing.sum(dim=1).T
