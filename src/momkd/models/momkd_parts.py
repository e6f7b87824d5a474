"""The parts of MoMKD that its options choose: an encoder of tiles and a head."""

from torch import nn

from momkd.models.momkd_options import MoMKDOptions
from momkd.nn.towers import GraphEncoder, TileEncoder
from momkd.types import Dims


def make_encoder(dims: Dims, o: MoMKDOptions) -> GraphEncoder | TileEncoder:
    """Give what turns tiles into vectors."""
    if o.encoder == "tiles":
        return TileEncoder(dims.dim_in, o.dim, dropout=o.dropout)
    return GraphEncoder(
        dims.dim_in, o.dim, o.n_heads, dropout=o.dropout, dropout_attention=o.dropout_attention
    )


def make_head(dims: Dims, o: MoMKDOptions) -> nn.Module:
    """Give the classifier of slides."""
    if o.head == "linear":
        return nn.Linear(o.dim, dims.n_classes)
    return nn.Sequential(
        nn.LayerNorm(o.dim),
        nn.Linear(o.dim, o.dim_head),
        nn.ReLU(),
        nn.Dropout(o.dropout_head),
        nn.Linear(o.dim_head, dims.n_classes),
    )
