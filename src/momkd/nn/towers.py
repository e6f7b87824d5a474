"""What turns each modality into vectors: a graph encoder for tiles, two small towers for RNA."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from momkd.nn.graph_attention import GATv2


class GraphEncoder(nn.Module):
    """Two GATv2 layers with residuals; the element-wise maximum of both layers' outputs.

    h1 = Dropout(ELU(LayerNorm(GATv2(x)))) + R x; h2 = Dropout(ELU(LayerNorm(GATv2(h1)))) + h1;
    output max(h1, h2). MoMKD, section 3.1; the details are those of its published code.

    Parameters
    ----------
    dim_in, dim
        Widths of an embedding and of the output.
    n_heads
        Heads of each layer, ``dim / n_heads`` wide.
    dropout, dropout_attention
        Rates on the layers' outputs and on attention coefficients.
    """

    def __init__(
        self, dim_in: int, dim: int, n_heads: int, *, dropout: float, dropout_attention: float
    ) -> None:
        super().__init__()
        dim_head = dim // n_heads
        self.graph_1 = GATv2(dim_in, dim_head, n_heads, dropout=dropout_attention)
        self.graph_2 = GATv2(dim, dim_head, n_heads, dropout=dropout_attention)
        self.residual = nn.Linear(dim_in, dim)
        self.norm_1 = nn.LayerNorm(dim)
        self.norm_2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "n_tiles dim_in"], lists: Int64[Tensor, "n_tiles n_heard"]
    ) -> Float[Tensor, "n_tiles dim"]:
        """Encode tiles; ``lists`` as of :func:`momkd.nn.graph_attention.listening_lists`."""
        elu = nn.functional.elu
        first = self.dropout(elu(self.norm_1(self.graph_1(x, lists)))) + self.residual(x)
        second = self.dropout(elu(self.norm_2(self.graph_2(first, lists)))) + first
        return torch.maximum(first, second)


class RNATower(nn.Sequential):
    """Linear, LayerNorm, ReLU, Dropout, Linear: genes to a vector, and the way back.

    Parameters
    ----------
    dim_in, dim_hidden, dim_out
        Widths; an encoder has n_genes first, a decoder last.
    dropout
        Rate after the ReLU.
    """

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, *, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim_in, dim_hidden),
            nn.LayerNorm(dim_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim_hidden, dim_out),
        )
