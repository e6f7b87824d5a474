"""The histology path of each model on the tensors of one slide: what a graph is exported from.

No control flow depends on values or on the number of tiles, and no bag is built; the equations are
those of the models' own modules.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from momkd.models.abmil import ABMIL
from momkd.models.base import BagClassifier
from momkd.models.dsmil import DSMIL
from momkd.models.g_hanet import GHANet
from momkd.models.mean_pool import MeanLogistic
from momkd.models.mkd import MKD
from momkd.models.momkd import MoMKD
from momkd.models.tdc import TDC
from momkd.models.transmil import TransMIL, as_distribution
from momkd.models.wikg import WiKG
from momkd.nn.graph_attention import listening_lists
from momkd.nn.nearest_scores import top_scores_of_one
from momkd.nn.pooling import one_segment

Traced = tuple[Float[Tensor, " n_classes"], Float[Tensor, " n_tiles"]]

UNTRACEABLE: Mapping[str, str] = {
    "dtfd_mil": "torch.randperm with a seed: its pseudo-bags are dealt by torch's own generator, "
    "which no ONNX operator repeats",
}
"""Models of the table that no graph can hold, and the operation that stands in the way."""


def trace(
    model: BagClassifier,
    embeddings: Float[Tensor, "n_tiles dim_in"],
    neighbours: Int64[Tensor, "n_tiles k"] | None,
) -> Traced:
    """Score one slide by tensors alone: the logits and attention of ``model(bag)``.

    Parameters
    ----------
    model
        In evaluation mode; :data:`UNTRACEABLE` names those it cannot be.
    embeddings
        One row a tile.
    neighbours
        Of models that need coordinates: each tile's nearest tiles, -1 for none.

    Raises
    ------
    KeyError
        A model without a traceable path.
    """
    return _PATHS[type(model)](model, embeddings, neighbours)


def _abmil(model: ABMIL, x: Tensor, near: Tensor | None) -> Traced:
    attention, slides = model.pool(x, one_segment(x), 1)
    return model.head(slides)[0], attention


def _dsmil(model: DSMIL, x: Tensor, near: Tensor | None) -> Traced:
    output = model.answer(model.read_tiles(x))
    return output.logits, output.attention


def _g_hanet(model: GHANet, x: Tensor, near: Tensor | None) -> Traced:
    reading = model.read_tiles(x[None])
    return reading.logits[0], reading.attention[0]


def _mean_logistic(model: MeanLogistic, x: Tensor, near: Tensor | None) -> Traced:
    ones = torch.ones_like(x[:, 0])
    return model.logits(x.mean(dim=0)), ones / ones.sum()


def _mkd(model: MKD, x: Tensor, near: Tensor | None) -> Traced:
    says, attention = model.student(x, one_segment(x), 1)
    return says.logits[0], attention


def _momkd(model: MoMKD, x: Tensor, near: Tensor | None) -> Traced:
    assert near is not None
    lists = listening_lists(near.int(), model.options.edges)
    logits, attention = model.read_packed(x, lists, one_segment(x), 1, model.memory.unit())
    return logits[0], attention


def _tdc(model: TDC, x: Tensor, near: Tensor | None) -> Traced:
    reading = model.student.read(x, one_segment(x), 1)
    return reading.logits[0], reading.attention


def _transmil(model: TransMIL, x: Tensor, near: Tensor | None) -> Traced:
    n_tiles = torch.ones_like(x[:, 0], dtype=torch.float64).sum()
    side: Any = n_tiles.sqrt().ceil().long().item()  # a symbol while a graph is made
    torch._check(side >= 1)  # type: ignore[no-untyped-call]
    # filled up with the first tiles once more
    tile = torch.remainder(torch.arange(side * side, device=x.device), n_tiles.long())
    reading = model.read_squares(model.encoder(x).index_select(0, tile)[None], side)
    positive = reading.attention[0].clamp(min=0)
    attention = torch.zeros_like(x[:, 0]).index_add(0, tile, positive)
    return reading.logits[0], as_distribution(attention)


def _wikg(model: WiKG, x: Tensor, near: Tensor | None) -> Traced:
    choose = partial(top_scores_of_one, k=model.options.n_neighbours)
    reading = model.read_packed(x, one_segment(x), 1, choose)
    return reading.logits[0], reading.attention


_PATHS: Mapping[type[BagClassifier], Callable[[Any, Tensor, Tensor | None], Traced]] = {
    ABMIL: _abmil,
    DSMIL: _dsmil,
    GHANet: _g_hanet,
    MeanLogistic: _mean_logistic,
    MKD: _mkd,
    MoMKD: _momkd,
    TDC: _tdc,
    TransMIL: _transmil,
    WiKG: _wikg,
}
