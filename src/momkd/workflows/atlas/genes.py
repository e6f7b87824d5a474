"""Which genes move with a slot: the only part of an atlas that reads RNA.

A predictor holds none. This part needs the run that trained it: its configuration, the cohort that
it names, the panel of genes that was fitted on the training cases, and the weights that only
training used. Of these the training cases with slide and RNA are read, and no others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch.nn.functional import normalize

from momkd.data.cohort import cohort_digest
from momkd.data.features import read_bag
from momkd.data.panel import Panel
from momkd.errors import DataError, IntegrityError
from momkd.evaluation.rank_correlation import FEWEST_CASES, Correlations, correlate_ranks
from momkd.evaluation.slot_use import mean_use, slide_use
from momkd.models.momkd import MoMKD
from momkd.models.table import build_model
from momkd.serving.weights import require_match, unpack_weights
from momkd.storage import digest_bytes
from momkd.types import Case, Cohort, Dims, Expression
from momkd.workflows.atlas.slot_reading import look_at
from momkd.workflows.atlas.trained_memory import TrainedMemory
from momkd.workflows.audit import audit_cohort
from momkd.workflows.fold_job import TRAINING_SIDE
from momkd.workflows.settings import load_settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotGenes:
    """What goes with the use of the slots among the training cases.

    Parameters
    ----------
    genes
        The panel's, in its order.
    case_ids, labels
        Training cases with slide and RNA.
    use
        Share of a case's tiles for which each slot (classes one after another) is the nearest of
        its class.
    all_cases, within_class
        Rank correlations of slots (rows) with genes; the second compares cases of one class only,
        so that what goes with the class alone is not in it.
    slide_points, rna_points
        Where training put the slide and the RNA of each case in the space of the memory, unit
        vectors; None where the run did not keep the weights that do so.
    """

    genes: tuple[str, ...]
    case_ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n_cases"]
    use: Float64[np.ndarray, "n_cases n_all_slots"]
    all_cases: Correlations
    within_class: Correlations
    slide_points: Float32[np.ndarray, "n_cases dim_shared"] | None = None
    rna_points: Float32[np.ndarray, "n_cases dim_shared"] | None = None


def read_genes(
    memory: TrainedMemory, *, on_case: Callable[[], None] | None = None
) -> tuple[SlotGenes | None, str]:
    """Correlate the use of slots with expression over the training cases of one training.

    Returns
    -------
    SlotGenes or None
        None where it cannot be done.
    str
        Why not; or empty.

    Raises
    ------
    IntegrityError
        P19 a cohort that is not what the model was trained on; F26 a file that changed.
    ConfigError
        G codes: the run's ``config.yaml`` cannot be read.
    """
    if memory.training is None or memory.run is None:
        return None, "a predictor holds no RNA: give the run that trained it to see genes"
    if memory.card.provenance.get("control") not in ("true_pairs", None):
        return None, "this training was taught with a control in the place of the cases' RNA"
    panel_path = memory.training / "panel.json"
    if not panel_path.exists():
        return None, "this training has no panel of genes: no RNA taught it"
    text = panel_path.read_text(encoding="utf-8")
    if memory.card.provenance.get("panel") != digest_bytes(text.encode()):
        what = "is not the panel that the predictor was trained with (SHA-256 differs)"
        raise IntegrityError.of("P19", str(panel_path), what, "restore the run folder")
    panel = Panel.from_json(text)
    settings = load_settings([memory.run / "config.yaml"])
    try:
        audited = audit_cohort(settings.data, manifest=_existing(memory.run / "features.csv"))
    except DataError as error:
        return None, f"the cohort cannot be read as it was: {error.problems[0].line()}"
    cohort = audited.audit.cohort
    if memory.card.provenance.get("cohort") != cohort_digest(cohort):
        what = "slides, cases or labels are not those that the predictor was trained on"
        raise IntegrityError.of("P19", str(memory.run), what, "restore the data, or --no-genes")
    cases = [c for c in cohort.cases if c.has_rna and c.slide_ids and panel.has_seen(c.case_id)]
    if len(cases) < FEWEST_CASES or cohort.expression is None:
        return None, f"{len(cases)} training cases have slide and RNA, wanted {FEWEST_CASES}"
    return _correlate(memory, cohort, cohort.expression, cases, panel, on_case), ""


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _correlate(
    memory: TrainedMemory,
    cohort: Cohort,
    expression: Expression,
    cases: Sequence[Case],
    panel: Panel,
    on_case: Callable[[], None] | None,
) -> SlotGenes:
    uses, slide_vectors = [], []
    for case in cases:
        parts, vectors = [], []
        for slide_id in case.slide_ids:
            bag = read_bag(cohort.slides[slide_id], k=memory.card.neighbours)
            said, output, _, cosines = look_at(memory, bag)
            parts.append(slide_use(cosines, said.attention))
            vectors.append(output.embedding.float().cpu())
        uses.append(mean_use(parts).use.ravel())
        slide_vectors.append(torch.stack(vectors))
        if on_case is not None:
            on_case()
    z = panel.transform(expression, [c.case_id for c in cases])
    use, labels = np.stack(uses), np.array([c.label for c in cases], dtype=np.int64)
    slide_points = rna_points = None
    taught = _training_model(memory, len(panel.genes))
    if taught is not None:
        with torch.inference_mode():
            rna = torch.from_numpy(z)
            rna_points = taught.rna_points(rna).numpy()
            own = [taught.slide_points(v).mean(dim=0) for v in slide_vectors]
            slide_points = normalize(torch.stack(own), dim=1).numpy()
    return SlotGenes(
        genes=panel.genes,
        case_ids=tuple(c.case_id for c in cases),
        labels=labels,
        use=use,
        all_cases=correlate_ranks(use, z),
        within_class=correlate_ranks(use, z, labels),
        slide_points=slide_points,
        rna_points=rna_points,
    )


def _training_model(memory: TrainedMemory, n_genes: int) -> MoMKD | None:
    """Build the model with what only training used; None where the run did not keep that.

    Raises
    ------
    ModelError
        C05, C08, C09, C11 weights that are damaged or of another model.
    """
    assert memory.training is not None
    path = memory.training / TRAINING_SIDE
    if not path.is_file():
        return None
    card = memory.card
    tensors: dict[str, Any] = unpack_weights(path.read_bytes(), str(path))
    dims = Dims(dim_in=card.dims.dim_in, n_classes=card.dims.n_classes, n_genes=n_genes)
    with torch.random.fork_rng(devices=[]):
        model = build_model(card.model, dims, options=card.options)
    assert isinstance(model, MoMKD)
    require_match(tensors, dict(model.training_state()), str(path))
    model.load_state_dict({**memory.model.state_dict(), **tensors}, strict=True)
    return model.eval()
