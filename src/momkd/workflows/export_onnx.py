"""``momkd export RUN --to onnx``: a graph that is written only if it answers as the model does."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from momkd.data.graph import nearest_neighbours
from momkd.errors import IntegrityError
from momkd.predictor import Ensemble
from momkd.serving.onnx_graph import (
    build_graph,
    describe,
    open_session,
    require_exportable,
    require_packages,
    run_session,
)
from momkd.storage import write_bytes
from momkd.types import Bag
from momkd.workflows.export_source import ExportSource

TOLERANCE = 1e-5
CHECKED_TILES = (1, 2, 9, 60, 500)


def write_onnx(source: ExportSource, path: Path) -> str:
    """Export, compare with torch on simulated slides of several sizes, and write the file.

    Returns
    -------
    str
        What was checked.

    Raises
    ------
    ModelError
        C14 a model that no graph can hold.
    IntegrityError
        C15 the graph's answer differs by more than :data:`TOLERANCE`.
    MachineError
        E01 a package is missing; X10 the file cannot be written.
    """
    ensemble = source.ensemble
    require_exportable(ensemble.card)
    require_packages()
    models = [member.model for member in ensemble.members]
    cards = [member.card for member in ensemble.members]
    program = build_graph(models, cards)
    content = program.model_proto.SerializeToString()
    worst = largest_difference(content, ensemble, CHECKED_TILES)
    if not worst <= TOLERANCE:
        what = f"the ONNX graph differs from torch by {worst:.1e}, allowed {TOLERANCE:.0e}"
        raise IntegrityError.of("C15", str(path), what, "export it --to hub")
    with_graph = models[0].needs_coordinates
    facts = describe(cards, ensemble.threshold, with_graph=with_graph)
    checked = {"tiles": CHECKED_TILES, "allowed": TOLERANCE, "torch": str(torch.__version__)}
    facts["momkd.checked"] = json.dumps(checked, sort_keys=True)
    program.model.metadata_props.update(facts)
    program.model.producer_name = "momkd"
    content = program.model_proto.SerializeToString()
    write_bytes(path, content)
    sizes = ", ".join(map(str, CHECKED_TILES))
    told = f"{len(cards)} member(s), {len(content) / 1e6:.1f} MB; "
    return told + f"differs from torch by {worst:.1e} at most on slides of {sizes} tiles"


def largest_difference(content: bytes, ensemble: Ensemble, sizes: Sequence[int]) -> float:
    """Compare a graph with what serves; give the largest difference of any output.

    Probabilities and attention differ by what they differ; logits beyond 1 by their share.
    """
    session = open_session(content)
    worst = 0.0
    for n_tiles in sizes:
        bag = simulated_bag(ensemble, n_tiles)
        found = run_session(session, *_as_inputs(bag))
        answer = ensemble.predict(bag).prediction
        logits = np.stack([member.logits(bag) for member in ensemble.members])
        gaps = [
            np.abs(found["probabilities"] - answer.probabilities),
            np.abs(found["attention"] - answer.attention),
            np.abs(found["logits"] - logits) / np.maximum(1, np.abs(logits)),
        ]
        found_worst = max(float(gap.max()) for gap in gaps)
        worst = max(worst, found_worst) if np.isfinite(found_worst) else float("inf")
    return worst


def simulated_bag(ensemble: Ensemble, n_tiles: int) -> Bag:
    """Make a slide like those of training: their means and spreads, where the card has them."""
    card = ensemble.card
    rng = np.random.default_rng(n_tiles)
    embeddings = rng.standard_normal((n_tiles, card.dims.dim_in))
    if (known := card.embedding_range) is not None:
        embeddings = np.array(known.mean) + embeddings * np.sqrt(np.array(known.variance))
    side = int(np.ceil(np.sqrt(2 * n_tiles)))
    places = rng.permutation(side**2)[:n_tiles]  # half of a square holds tissue
    coords = np.stack([places % side, places // side], axis=1).astype(np.int64) * 512
    near = nearest_neighbours(coords, card.neighbours)
    return Bag(
        slide_id=f"simulated-{n_tiles}",
        embeddings=torch.from_numpy(embeddings.astype(np.float32)),
        neighbours=torch.from_numpy(near) if _needs_graph(ensemble) else None,
    )


def _as_inputs(bag: Bag) -> tuple[np.ndarray, np.ndarray | None]:
    near = None if bag.neighbours is None else bag.neighbours.numpy().astype(np.int64)
    return bag.embeddings.numpy(), near


def _needs_graph(ensemble: Ensemble) -> bool:
    return ensemble.members[0].model.needs_coordinates
