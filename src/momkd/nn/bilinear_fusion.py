"""Gated bilinear fusion of two modalities' vectors (Pathomic Fusion, Chen et al. 2020).

TDC and MKD use it with different widths and endings; both are here.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from momkd.nn.batch_norm import BatchNorm


class GatedVector(nn.Module):
    """One modality's vector, gated by both: o = Dropout(ReLU(W_o(sigmoid(z) * h))).

    h = ReLU(W_h own), z = Bilinear(a, b).
    """

    def __init__(self, dim_own: int, dims: tuple[int, int], dim_hidden: int, rate: float) -> None:
        super().__init__()
        self.content = nn.Linear(dim_own, dim_hidden)
        self.gate = nn.Bilinear(*dims, dim_hidden)
        self.output = nn.Linear(dim_hidden, dim_hidden)
        self.dropout = nn.Dropout(rate)

    def forward(
        self, own: Float[Tensor, "n dim_own"], products: Float[Tensor, "n dim_a_times_dim_b"]
    ) -> Float[Tensor, "n dim_hidden"]:
        """Gate ``own``, which is one of a and b; ``products`` are theirs, every one with every."""
        # z = Bilinear(a, b) as one matrix product: several times faster than torch's own
        gate = linear(products, self.gate.weight.flatten(1), self.gate.bias)
        gated = torch.sigmoid(gate) * torch.relu(self.content(own))
        return self.dropout(torch.relu(self.output(gated)))


class BilinearFusion(nn.Module):
    """Gate both vectors, append a 1 to each, take their outer product, and encode it twice.

    Parameters
    ----------
    dim_a, dim_b
        Widths of the two vectors.
    dim_hidden, dim_out
        Widths of the gated vectors and of the result.
    dropout
        Rate after every ReLU and on the outer product.
    batch_norm
        Normalise before the ReLU of both encoders (TDC).
    skip
        Give the second encoder both vectors beside the first one's output (MKD).
    """

    def __init__(
        self,
        dim_a: int,
        dim_b: int,
        *,
        dim_hidden: int,
        dim_out: int,
        dropout: float,
        batch_norm: bool = False,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.skip = skip
        self.gated_a = GatedVector(dim_a, (dim_a, dim_b), dim_hidden, dropout)
        self.gated_b = GatedVector(dim_b, (dim_a, dim_b), dim_hidden, dropout)
        self.dropout = nn.Dropout(dropout)
        dim_second = dim_out + (dim_a + dim_b if skip else 0)
        self.encoder_1 = _encoder((dim_hidden + 1) ** 2, dim_out, dropout, batch_norm=batch_norm)
        self.encoder_2 = _encoder(dim_second, dim_out, dropout, batch_norm=batch_norm)

    def forward(
        self, a: Float[Tensor, "n dim_a"], b: Float[Tensor, "n dim_b"]
    ) -> Float[Tensor, "n dim_out"]:
        """Fuse paired rows."""
        one = a.new_ones(len(a), 1)
        products = (a[:, :, None] * b[:, None]).flatten(1)
        gated_a = torch.cat([self.gated_a(a, products), one], dim=1)
        gated_b = torch.cat([self.gated_b(b, products), one], dim=1)
        product = (gated_a[:, :, None] * gated_b[:, None]).flatten(1)
        fused: Tensor = self.encoder_1(self.dropout(product))
        result: Tensor = self.encoder_2(torch.cat([fused, a, b], dim=1) if self.skip else fused)
        return result


def _encoder(dim_in: int, dim_out: int, rate: float, *, batch_norm: bool) -> nn.Sequential:
    norm = [BatchNorm(dim_out)] if batch_norm else []
    return nn.Sequential(nn.Linear(dim_in, dim_out), *norm, nn.ReLU(), nn.Dropout(rate))
