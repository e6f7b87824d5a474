"""Predictors as one ONNX graph: embeddings in, calibrated probabilities and attention out.

The graph takes any number of tiles. What it cannot hold stands in its metadata (:func:`describe`):
what its input must be, and the threshold.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from momkd.errors import MachineError, ModelError
from momkd.models.base import BagClassifier
from momkd.serving.card import Card, licence_of
from momkd.serving.traceable import UNTRACEABLE, trace

OPSET = 18
FORMAT = 1
OUTPUTS = ("probabilities", "attention", "logits")
_EXAMPLE_TILES = 13  # no size of any model, and not 0 or 1, which torch.export takes for constants
_MOST_TILES = 2**24
_EXTRA = "pip install 'momkd[onnx]'"


class HistologyGraph(nn.Module):
    """What several models of one kind say of a slide, calibrated and averaged.

    Parameters
    ----------
    models, cards
        The members; each is calibrated as its own card says.
    """

    temperatures: Tensor
    offsets: Tensor

    def __init__(self, models: Sequence[BagClassifier], cards: Sequence[Card]) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self.register_buffer("temperatures", torch.tensor([c.temperature for c in cards]))
        self.register_buffer("offsets", torch.tensor([c.offset for c in cards]))

    def forward(
        self,
        embeddings: Float[Tensor, "n_tiles dim_in"],
        neighbours: Int64[Tensor, "n_tiles k"] | None = None,
    ) -> tuple[
        Float[Tensor, " n_classes"],
        Float[Tensor, " n_tiles"],
        Float[Tensor, "n_members n_classes"],
    ]:
        """Give mean probabilities, mean attention, and each member's logits."""
        answers = [trace(m, embeddings, neighbours) for m in self.members]  # type: ignore[arg-type]
        logits = torch.stack([y for y, _ in answers]).float()
        attention = torch.stack([a for _, a in answers]).float().mean(dim=0)
        z = (logits[:, 1] - logits[:, 0]) / self.temperatures + self.offsets
        probabilities = torch.sigmoid(torch.stack([-z, z], dim=1)).mean(dim=0)
        return probabilities, attention, logits


def require_exportable(card: Card) -> None:
    """Turn a model away that no graph can hold.

    Raises
    ------
    ModelError
        C14 names the operation.
    """
    if card.model in UNTRACEABLE:
        what = f"no ONNX graph can hold {UNTRACEABLE[card.model]}"
        remedy = "export it --to hub, or choose another model"
        raise ModelError.of("C14", f"model {card.model}", what, remedy)


def require_packages() -> None:
    """Make sure that a graph can be made and run.

    Raises
    ------
    MachineError
        E01 onnx, onnxscript or onnxruntime is not installed.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise MachineError.of("E01", name, "not installed", _EXTRA) from None


def build_graph(models: Sequence[BagClassifier], cards: Sequence[Card]) -> Any:
    """Export members as one graph with a dynamic number of tiles.

    Returns
    -------
    torch.onnx.ONNXProgram
        Inputs ``embeddings`` float32 (n_tiles, dim_in) and, of models that need coordinates,
        ``neighbours`` int64 (n_tiles, k); outputs :data:`OUTPUTS`.

    Raises
    ------
    ModelError
        C14 the model, or an operation in it, has no form in ONNX.
    MachineError
        E01 as :func:`require_packages`.
    """
    card = cards[0]
    require_exportable(card)
    require_packages()
    with_graph = models[0].needs_coordinates
    tiles = torch.zeros(_EXAMPLE_TILES, card.dims.dim_in)
    inputs: tuple[Tensor, ...] = (tiles,)
    if with_graph:
        near = torch.arange(_EXAMPLE_TILES)[:, None] + torch.arange(1, card.neighbours + 1)
        inputs = (tiles, near % _EXAMPLE_TILES)
    n_tiles = torch.export.Dim("n_tiles", min=1, max=_MOST_TILES)
    graph = HistologyGraph(models, cards).eval()
    try:
        with _quiet(), torch.no_grad():
            return torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["embeddings", "neighbours"][: len(inputs)],
                output_names=list(OUTPUTS),
                dynamic_shapes=tuple({0: n_tiles} for _ in inputs),
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        last = str(error.__cause__ or error).strip().splitlines()
        what = f"torch's exporter found no ONNX form for it: {last[0] if last else error!r}"
        raise ModelError.of("C14", f"model {card.model}", what, "export it --to hub") from error


def describe(cards: Sequence[Card], threshold: float, *, with_graph: bool) -> dict[str, str]:
    """Give the metadata of a graph: what it must be fed, and what its answer means."""
    card = cards[0]
    facts: dict[str, Any] = {
        "format": FORMAT,
        "version": card.momkd_version,
        "model": card.model,
        "task": card.task,
        "class_names": card.class_names,
        "n_members": len(cards),
        "dim_in": card.dims.dim_in,
        "neighbours": card.neighbours if with_graph else None,
        "threshold": threshold,
        "threshold_rule": card.threshold_rule,
        "calibration": {
            "in_graph": True,
            "members": [{"temperature": c.temperature, "offset": c.offset} for c in cards],
        },
        "embeddings": {
            "encoder": card.encoder,
            "encoder_sha256": card.encoder_sha256,
            "tile_px": card.tile_px,
            "overlap_px": card.overlap_px,
            "magnification": card.magnification,
            "mpp": card.mpp,
            "normalisation": "none: as the encoder gives them; the model's own is in the graph",
        },
        "weights_sha256": [c.weights_sha256 for c in cards],
        "licence": licence_of(card),
        "limits": card.limits,
        "target_notes": card.target_notes,
    }
    return {f"momkd.{key}": json.dumps(value, sort_keys=True) for key, value in facts.items()}


def open_session(content: bytes) -> Any:
    """Open a graph with onnxruntime on the CPU.

    Raises
    ------
    MachineError
        E01 onnxruntime is not installed.
    """
    require_packages()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False  # it never gives memory back
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any,
    embeddings: Float32[np.ndarray, "n_tiles dim_in"],
    neighbours: Int64[np.ndarray, "n_tiles k"] | None = None,
) -> dict[str, np.ndarray]:
    """Run a graph on one slide; give its outputs by name."""
    feed: dict[str, np.ndarray] = {"embeddings": embeddings}
    if neighbours is not None:
        feed["neighbours"] = neighbours
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says to its own developers from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
