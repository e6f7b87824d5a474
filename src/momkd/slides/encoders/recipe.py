"""What a published encoder is: its network, its weights' source, and how it is fed.

Imports nothing heavy: the command line names encoders in its help.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from momkd.slides.views import ViewPlan

Pooling = Literal["features", "class_token", "class_and_mean", "average", "mean_and_spread"]
Network = Literal["timm", "conch", "lite", "onnx"]
Resample = Literal["bilinear", "bicubic"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe:
    """How a published encoder is built, loaded and fed.

    Parameters
    ----------
    name
        Its name here, and in feature files.
    dim
        Width of an embedding.
    network
        Who builds the network: ``timm``; ``conch``, timm with CONCH's pooling on top; ``lite``,
        the package of EfficientNet-Lite; ``onnx``, a graph that onnxruntime runs.
    architecture
        What that library calls it.
    options
        Arguments of the architecture.
    weights_of
        Whose names the tensors of the published file carry: those of the network built here, or
        those of ``transformers`` (DINOv2), which are renamed.
    source
        Repository of the weights on the Hub, or the package that holds them.
    files
        File of the weights there; the first that exists.
    gated
        The weights are given out on request.
    resize_px, crop_px, resample
        The view is resized to the first and cut to the second, centred.
    native_mpp
        Networks that read any size are fed at this many um per pixel, whatever the tile; then
        ``resize_px`` and ``crop_px`` do not apply.
    colour
        What the network reads: ``rgb``, or ``stains``, concentrations of eosin and haematoxylin
        and the optical density, by vectors that are estimated on each slide.
    mean, std
        Of the normalisation of RGB.
    pooling
        What of the network's output is the embedding.
    n_prefix_tokens
        Class and register tokens before the tokens of patches.
    n_million
        Weights of the network, in millions.
    licence
        Of the weights, as the publisher states it.
    """

    name: str
    dim: int
    network: Network
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    weights_of: Literal["network", "transformers"] = "network"
    source: str
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    gated: bool = True
    resize_px: int = 224
    crop_px: int = 224
    resample: Resample = "bilinear"
    native_mpp: float | None = None
    colour: Literal["rgb", "stains"] = "rgb"
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    pooling: Pooling = "features"
    n_prefix_tokens: int = 1
    n_million: float = 0.0
    licence: str = "see the publisher"

    def preprocessing(self) -> dict[str, Any]:
        """Give what is done to a view before the network; part of the encoder's identity."""
        wanted = ("resample", "resize_px", "crop_px", "mean", "std", "pooling")
        facts = {key: getattr(self, key) for key in wanted}
        if self.native_mpp is not None:
            facts |= {"native_mpp": self.native_mpp}
        if self.colour != "rgb":
            facts |= {"colour": self.colour}
        return facts

    def view_plan(self, tile_um: float) -> "ViewPlan":
        """Give how views of tiles of this side are resized and cut.

        Parameters
        ----------
        tile_um
            Side of a tile in micrometres.
        """
        from momkd.slides.views import ViewPlan

        if self.native_mpp is None:
            return ViewPlan(resize_px=self.resize_px, crop_px=self.crop_px, resample=self.resample)
        block = self.options["block_px"]
        side = max(1, round(tile_um / self.native_mpp / block)) * block
        return ViewPlan(resize_px=side, resample=self.resample)
