"""Networks of encoders, built without weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from momkd.errors import MachineError, Problem
from momkd.slides.encoders.recipe import EncoderRecipe
from momkd.slides.encoders.torchvision_import import ensure_torchvision


def build_network(recipe: EncoderRecipe) -> nn.Module:
    """Build a recipe's network with random weights.

    Raises
    ------
    MachineError
        E01 the library that builds it is not installed.
    """
    builders: dict[str, Callable[[EncoderRecipe], nn.Module]] = {
        "timm": _build_timm,
        "conch": ConchTower,
        "lite": _build_lite,
    }
    return builders[recipe.network](recipe)


def not_installed(package: str, line: str = "pip install 'momkd[slides,encoders]'") -> MachineError:
    """Make the refusal of a missing library, with the line that installs it."""
    return MachineError(Problem(code="E01", where=package, what="not installed", remedy=line))


def _build_lite(recipe: EncoderRecipe) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise not_installed("efficientnet-lite-pytorch", "pip install 'momkd[slides]'") from None

    class Features(EfficientNet):  # type: ignore[misc]
        def forward(self, inputs: Tensor) -> Tensor:
            return self.extract_features(inputs)

    return Features.from_name(recipe.architecture)


def _build_timm(recipe: EncoderRecipe) -> Any:
    ensure_torchvision()
    try:
        import timm
        from timm.layers import SwiGLUPacked
    except ImportError:
        raise not_installed("timm") from None
    options = dict(recipe.options)
    if options.get("mlp_layer") == "SwiGLUPacked":
        options |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return timm.create_model(recipe.architecture, pretrained=False, **options)


class _QueryPooling(nn.Module):
    """One learned query looks at every token; CONCH's contrastive pooling (CoCa's, single query).

    Parameters
    ----------
    dim_out
        Width of the query and of what comes out.
    dim_in
        Width of the tokens.
    """

    def __init__(self, dim_out: int, dim_in: int, n_heads: int = 8) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Parameter(torch.randn(1, dim_out))
        self.ln_k = nn.LayerNorm(dim_in)
        self.ln_q = nn.LayerNorm(dim_out)
        self.to_q = nn.Linear(dim_out, dim_out, bias=False)
        self.to_kv = nn.Linear(dim_in, 2 * dim_out, bias=False)
        self.to_out = nn.Linear(dim_out, dim_out, bias=False)

    def forward(self, tokens: Float[Tensor, "n n_tokens dim_in"]) -> Float[Tensor, "n dim_out"]:
        n = len(tokens)
        q = self.to_q(self.ln_q(self.query)).expand(n, 1, -1)
        k, v = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        q, k, v = (z.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for z in (q, k, v))
        seen = functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(seen.transpose(1, 2).flatten(1))


class ConchTower(nn.Module):
    """Image tower of CONCH v1.5: a ViT-L/16 of timm, pooled by one query.

    The trunk has positions of 14 x 14 patches and reads 448 px, so 28 x 28: positions are
    interpolated as the published code does it, bicubic by scale factors with 0.1 added to the
    wanted grid. timm's own interpolation differs in the third digit.

    Parameters
    ----------
    recipe
        Its trunk, and the width of what comes out.
    """

    def __init__(self, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.trunk = _build_timm(recipe)
        self.attn_pool_contrast = _QueryPooling(recipe.dim, self.trunk.embed_dim)
        self.ln_contrast = nn.LayerNorm(recipe.dim)

    def forward(self, x: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n dim"]:
        """Embed normalised images."""
        patches = self.trunk.patch_embed.proj(x)
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.trunk.cls_token.expand(len(x), -1, -1), tokens], dim=1)
        tokens = tokens + self._positions(grid).to(tokens.dtype)
        tokens = self.trunk.norm(self.trunk.blocks(tokens))
        return self.ln_contrast(self.attn_pool_contrast(tokens))

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        stored = self.trunk.pos_embed
        of_class, of_patches = stored[:, :1], stored[:, 1:]
        side = math.isqrt(of_patches.shape[1])
        if grid == (side, side):
            return stored
        plane = of_patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factor = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        plane = functional.interpolate(plane.float(), scale_factor=factor, mode="bicubic")
        return torch.cat([of_class, plane.flatten(2).transpose(1, 2)], dim=1)
