"""An encoder at work: views of tiles become embeddings."""

import hashlib
import json
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from momkd.errors import ModelError
from momkd.slides.encoders.recipe import EncoderRecipe
from momkd.slides.encoders.stains import StainVectors, estimate_stains

Precision = Literal["float32", "bfloat16"]


class Encoder:
    """A network with its preprocessing, ready to embed.

    Parameters
    ----------
    recipe
        How tiles are fed to it.
    network
        Maps normalised (n, 3, side, side) to what the recipe's pooling expects.
    weights_sha256
        Digest of the weights.
    device
        Where it runs.
    precision
        ``float32``, or ``bfloat16`` products.
    stains
        Of the slide that views come from, for recipes that read stains; see :meth:`on_slide`.
    """

    def __init__(
        self,
        recipe: EncoderRecipe,
        network: nn.Module,
        *,
        weights_sha256: str,
        device: str = "cpu",
        precision: Precision = "float32",
        stains: StainVectors | None = None,
    ) -> None:
        self.recipe = recipe
        self.weights_sha256 = weights_sha256
        self.precision = precision
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)
        self._mean = torch.tensor(recipe.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(recipe.std, device=self._device).view(1, 3, 1, 1)
        self._stains = stains

    @property
    def identity(self) -> str:
        """Digest of network, weights, preprocessing and precision."""
        facts = {
            "recipe": self.recipe.name,
            "weights": self.weights_sha256,
            "preprocessing": self.recipe.preprocessing(),
            "precision": self.precision,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def on_slide(
        self,
        thumbnail: UInt8[np.ndarray, "height width 3"],
        tissue: np.ndarray | None = None,
    ) -> "Encoder":
        """Give this encoder set to a slide; itself, but for recipes that read stains.

        Parameters
        ----------
        thumbnail
            The whole slide.
        tissue
            True where tissue is; by default wherever light is absorbed.
        """
        if self.recipe.colour == "rgb":
            return self
        return Encoder(
            self.recipe,
            self._network,
            weights_sha256=self.weights_sha256,
            device=str(self._device),
            precision=self.precision,
            stains=estimate_stains(thumbnail, tissue),
        )

    def embed(
        self, views: UInt8[np.ndarray, "n side side 3"], *, tile_um: float = 112.0
    ) -> Float32[np.ndarray, "n dim"]:
        """Embed views of tiles as they were read.

        Parameters
        ----------
        views
            RGB, of one size.
        tile_um
            Side of a tile in micrometres; recipes with a resolution of their own need it.

        Raises
        ------
        ModelError
            E03 the network answers another width than its recipe, or values that are not finite.
        """
        plan = self.recipe.view_plan(tile_um)
        return self.embed_prepared(np.stack([plan.prepare(v) for v in views]))

    def embed_prepared(
        self, views: UInt8[np.ndarray, "n side side 3"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Embed views that have been resized and cut by the recipe's plan.

        Raises
        ------
        ModelError
            E03 as above.
        """
        batch = self._normalised(views)
        kind, low = self._device.type, self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=low):
            found = self._pooled(self._network(batch)).float()
        if found.shape[1] != self.recipe.dim or not bool(torch.isfinite(found).all()):
            what = (
                f"gave embeddings of width {found.shape[1]}, wanted {self.recipe.dim}, all finite"
            )
            raise ModelError.of("E03", self.recipe.name, what, "check its weights")
        return found.cpu().numpy()

    def _normalised(self, views: np.ndarray) -> Tensor:
        if self.recipe.colour == "stains":
            stains = self._stains or estimate_stains(views.reshape(-1, views.shape[2], 3))
            batch = torch.from_numpy(stains.concentrations(views)).to(self._device)
            return batch.permute(0, 3, 1, 2)
        batch = torch.from_numpy(views).to(self._device)
        batch = batch.permute(0, 3, 1, 2).float().div_(255)
        return (batch - self._mean) / self._std

    def _pooled(self, out: Any) -> Tensor:
        tokens: Tensor = out
        match self.recipe.pooling:
            case "features":
                return tokens
            case "average":
                return tokens.mean(dim=(2, 3))
            case "mean_and_spread":
                flat = tokens.flatten(2)
                return torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1)
            case "class_token":
                return tokens[:, 0]
            case "class_and_mean":
                patches = tokens[:, self.recipe.n_prefix_tokens :]
                return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)
