"""What predictors said of a slide's tiles, and class evidence beside it, as stored scores."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from momkd.predictor import Ensemble, EnsemblePrediction
from momkd.serving.evidence import class_evidence
from momkd.types import Bag
from momkd.workflows.stored_scores import StoredScores, write_scores


def evidence_of(ensemble: Ensemble, bag: Bag) -> np.ndarray | None:
    """Give the mean class evidence of the members; None where one of them has none."""
    found = [class_evidence(member.model, bag) for member in ensemble.members]
    known = [f for f in found if f is not None]
    return np.stack(known).mean(axis=0) if len(known) == len(found) else None


def store_answer(
    path: Path,
    answer: EnsemblePrediction,
    model: str,
    logit_evidence: Float[np.ndarray, " n_tiles"] | None = None,
    *,
    made_by: str = "",
) -> None:
    """Write the scores of an answer, and where the tiles lie.

    Parameters
    ----------
    path
        The file.
    answer, model
        What is stored, and who said it.
    logit_evidence
        As of :func:`evidence_of`.
    made_by
        Which predictors answered, in words.

    Raises
    ------
    MachineError
        X10 it cannot be written.
    """
    said = answer.prediction
    scores = StoredScores(
        slide_id=said.slide_id,
        model=model,
        grid=said.grid,
        attention=said.attention,
        evidence=said.evidence,
        logit_evidence=logit_evidence,
        class_names=said.class_names,
        probability=float(said.probabilities[1]),
        low=answer.low,
        high=answer.high,
        made_by=made_by,
    )
    write_scores(path, scores)
