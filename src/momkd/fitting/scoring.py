"""A model's word on slides, from histology only, and what it amounts to case by case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from scipy.special import log_softmax, logsumexp

from momkd.errors import ModelError
from momkd.evaluation.metrics import auroc
from momkd.fitting.device import Fabric, machine_faults, make_fabric
from momkd.fitting.division import own_part
from momkd.fitting.sampling import PlacedSamples, batches, name_keys
from momkd.models.base import BagClassifier
from momkd.nn.processes import ALONE, Processes
from momkd.types import SampleSource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Raw logits of one slide and the label of its case."""

    case_id: str
    slide_id: str
    label: int
    logits: Float32[np.ndarray, " n_classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseScores:
    """Uncalibrated scores over cases; a case's slides are averaged as probabilities.

    ``auroc`` is NaN where a class is missing (with more than two classes: the mean of one against
    the rest); ``loss`` is the mean negative log-likelihood in nats; ``spread`` the largest standard
    deviation of a class probability over the cases, NaN for a single case.
    """

    auroc: float
    loss: float
    spread: float


def score(
    model: BagClassifier, samples: SampleSource, *, batch_size: int = 1, device: str = "cpu"
) -> list[Scored]:
    """Score every slide of ``samples`` in order; ``model`` is left in evaluation mode there.

    Raises
    ------
    ModelError
        T06 a slide's logits are not finite.
    MachineError
        T05 out of memory, T18 no such device, or lost.
    """
    fabric = make_fabric(device, "32-true")
    fabric.to_device(model)
    placed = PlacedSamples(samples, fabric.device, lambda: None)
    return score_placed(model, placed, batch_size, fabric)


def score_placed(
    model: BagClassifier,
    samples: PlacedSamples,
    batch_size: int,
    fabric: Fabric,
    processes: Processes = ALONE,
) -> list[Scored]:
    """Score slides that arrive on the fabric's device, in its precision; see :func:`score`.

    Of several processes each scores some of the batches, and all are given all scores.
    """
    model.eval()
    scored: list[Scored] = []
    keys = samples.keys
    places = own_part(list(batches(range(len(samples)), batch_size)), processes)
    with torch.no_grad(), fabric.autocast():
        for own, batch in zip(places, samples.groups(places), strict=True):
            bags = [s.bag for s in batch if s.bag is not None]
            with machine_faults(name_keys([keys[i] for i in own])):
                outputs = model.forward_packed(bags)
                logits = torch.stack([o.logits for o in outputs]).float().cpu().numpy()
            scored += [
                Scored(case_id=s.case_id, slide_id=bag.slide_id, label=s.label, logits=row)
                for s, bag, row in zip(batch, bags, logits, strict=True)
            ]
    scored = [s for part in processes.collect(scored) for s in part]
    _require_finite(scored)
    return scored


def score_cases(scored: Sequence[Scored]) -> CaseScores:
    """Average slides to cases and score the cases."""
    labels, log_p = _case_log_probabilities(scored)
    probabilities = np.exp(log_p)
    n_cases, n_classes = log_p.shape
    classes = [1] if n_classes == 2 else list(range(n_classes))
    areas = [auroc((labels == c).astype(np.int64), probabilities[:, c]) for c in classes]
    return CaseScores(
        auroc=float(np.mean(areas)),
        loss=float(-log_p[np.arange(n_cases), labels].mean()),
        spread=float(probabilities.std(axis=0).max()) if n_cases > 1 else float("nan"),
    )


def _require_finite(scored: Sequence[Scored]) -> None:
    bad = [s.slide_id for s in scored if not np.isfinite(s.logits).all()]
    if bad:
        what = f"logits are not finite ({len(bad)} of {len(scored)} slides)"
        remedy = "lower fit.lr, or examine the slide with momkd inspect"
        raise ModelError.of("T06", f"slide {bad[0]}", what, remedy)


def _case_log_probabilities(
    scored: Sequence[Scored],
) -> tuple[Int64[np.ndarray, " n_cases"], Float64[np.ndarray, "n_cases n_classes"]]:
    """Give label and log mean probability of each case, in order of appearance."""
    slides: dict[str, list[Scored]] = {}
    for item in scored:
        slides.setdefault(item.case_id, []).append(item)
    labels = np.array([group[0].label for group in slides.values()], dtype=np.int64)
    log_p = [
        logsumexp(
            log_softmax(np.stack([s.logits for s in group]).astype(np.float64), axis=1), axis=0
        )
        - np.log(len(group))
        for group in slides.values()
    ]
    return labels, np.stack(log_p)
