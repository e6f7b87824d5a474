"""Programmes of expression: what RNA says in a few numbers, and poles of a memory that say it.

No paper's: our variant of MoMKD (docs/models/momkd.md, preset ``plus``). A *programme* is a leading
principal component of the scaled expression of the training cases; its two *poles* are a slot of
either class. RNA learns nothing here, so no gradient of its own can meet a slide's.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

_RIDGE = 10.0  # of the logistic regression, against a sum over cases; sklearn's C is its inverse
_NEWTON_STEPS = 50


def logistic_ridge(
    x: Float[Tensor, "n dim"], y: Float[Tensor, " n"], ridge: float
) -> tuple[Float[Tensor, " dim"], Float[Tensor, ""]]:
    """Fit P(y) = sigmoid(x'w + b) by Newton's steps: sum of log losses + ridge/2 |w|^2, b free."""
    design = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    penalty = torch.full_like(design[0], ridge)
    penalty[-1] = 1e-6  # keeps the step finite where a class is all there is
    weights = torch.zeros_like(penalty)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(design @ weights)
        slope = design.T @ (p - y) + penalty * weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design + torch.diag(penalty)
        step = torch.linalg.solve(curvature, slope)
        weights = weights - step
        if float(step.abs().max()) < 1e-10:
            break
    return weights[:-1], weights[-1]


class Programmes(nn.Module):
    """Reads a case's programmes and its odds of the positive class from its RNA; learns nothing.

    Before :meth:`start` every programme is zero and weighs nothing.

    Parameters
    ----------
    n_genes
        Width of the scaled expression.
    n_programmes
        Programmes that are taught. Twice as many components are weighed for the odds.
    """

    centre: Float[Tensor, " n_genes"]
    directions: Float[Tensor, "n_components n_genes"]
    odds: Float[Tensor, " n_components"]
    odds_bias: Float[Tensor, ""]
    relevance: Float[Tensor, " n_programmes"]

    def __init__(self, n_genes: int, n_programmes: int) -> None:
        super().__init__()
        n_components = 2 * n_programmes
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("directions", torch.zeros(n_components, n_genes))
        self.register_buffer("odds", torch.zeros(n_components))
        self.register_buffer("odds_bias", torch.zeros(()))
        self.register_buffer("relevance", torch.zeros(n_programmes))

    @torch.no_grad()
    def start(self, rna: Float[Tensor, "n n_genes"], labels: Int64[Tensor, " n"]) -> int:
        """Find the programmes of these cases; give how many there are.

        Components are scaled to unit variance and turned so that more speaks for the positive
        class. A programme's relevance is its share in the odds, on average 1.
        """
        z = rna.double()
        centre = z.mean(dim=0)
        _, spread, axes = torch.linalg.svd(z - centre, full_matrices=False)
        wanted = len(self.directions)
        n_found = min(wanted, int((spread > 1e-6 * spread[0].clamp(min=1e-12)).sum()))
        axes = axes[:n_found] * (len(z) ** 0.5 / spread[:n_found])[:, None]
        odds, bias = logistic_ridge((z - centre) @ axes.T, labels.double(), _RIDGE)
        sides = torch.where(odds < 0, -1.0, 1.0)
        self.centre.copy_(centre)
        self.directions.zero_()[:n_found] = (sides[:, None] * axes).to(self.directions)
        self.odds.zero_()[:n_found] = (sides * odds).to(self.odds)
        self.odds_bias.copy_(bias)
        taught = self.odds[: len(self.relevance)]
        self.relevance.copy_(taught / taught.mean().clamp(min=1e-12))
        return min(n_found, len(self.relevance))

    def forward(
        self, rna: Float[Tensor, "n n_genes"]
    ) -> tuple[Float[Tensor, "n n_programmes"], Float[Tensor, " n"]]:
        """Give each case's programmes, and the probability of the positive class given its RNA."""
        components = (rna - self.centre) @ self.directions.T
        probability = torch.sigmoid(components @ self.odds + self.odds_bias)
        return components[:, : len(self.relevance)], probability


class ProgrammePoles(nn.Module):
    """Reads programmes off a memory: where between its two poles does a point lie.

    Programme k of a point F is g_k F . (c_k+ - c_k-) + b_k, with slots as unit vectors.

    Parameters
    ----------
    n_programmes
        Slots a class.
    """

    def __init__(self, n_programmes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_programmes,), 0.5))
        self.shift = nn.Parameter(torch.zeros(n_programmes))

    def forward(
        self,
        points: Float[Tensor, "n dim"],
        unit_slots: Float[Tensor, "2 n_programmes dim"],
    ) -> Float[Tensor, "n n_programmes"]:
        """Give the programmes of each point."""
        return points @ (unit_slots[1] - unit_slots[0]).T * self.scale + self.shift
