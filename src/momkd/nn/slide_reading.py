"""Slides encoded and read against the memory, by whichever kernels the encoder has."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from momkd.nn.graph_attention import TileGraph
from momkd.nn.graph_attention.backends import compiled_backend
from momkd.nn.memory_reading import HeadPass, Question, Reading, read_plainly
from momkd.nn.towers import GraphEncoder


def read_slides(
    encoder: GraphEncoder,
    projection: nn.Linear,
    x: Float[Tensor, "n_tiles dim_in"],
    graph: TileGraph,
    temperature: Tensor | float,
    question: Question,
    *,
    seed: int | None = None,
) -> Reading:
    """Encode tiles, project them, and say what slides are in the eyes of the memory.

    Parameters
    ----------
    encoder, projection
        Of tiles.
    x
        Embeddings of all slides, one slide after another, of any floating type.
    graph
        Who hears whom.
    temperature
        Of the attention.
    question
        The slides' sizes, the memory, and the classes where distances are wanted.
    seed
        Of dropout masks that do not depend on the kernels; see :class:`GATv2`.
    """
    weight = projection.weight
    parameters = [weight, projection.bias, *encoder.parameters_in_order()]
    inputs = [x, *parameters, *([temperature] if isinstance(temperature, Tensor) else [])]
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    backend = compiled_backend(encoder.kernels, x, weight)
    if backend is None or (learns and question.labels is None):
        tiles = encoder(x, graph, seed=seed)
        return read_plainly(tiles, weight, projection.bias, temperature, question)
    head = HeadPass(weight, projection.bias, temperature, question)
    encoding = encoder.begin_pass(backend, graph, seed=seed, keep=learns)
    if not learns:
        return head.forward(encoding.forward(x))
    from momkd.nn.fused_reading import read_fused

    return read_fused(encoding, head, x, temperature, parameters)
