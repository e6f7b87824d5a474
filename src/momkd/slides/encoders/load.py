"""An encoder by its name: recipe, weights and network put together."""

import hashlib
from pathlib import Path

from momkd.errors import ConfigError
from momkd.slides.encoders.embed import Encoder, Precision
from momkd.slides.encoders.onnx_network import OnnxNetwork
from momkd.slides.encoders.table import DEFAULT_ENCODER, ENCODERS
from momkd.slides.encoders.weights import find_weights, fit_network, read_weights
from momkd.storage import digest_file


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Encoder:
    """Build an encoder with its published weights.

    Weights come from ``weights`` (a safetensors or a plain ``.pt``/``.bin`` file of tensors), else
    from the installed package, else from the Hub with the user's token.

    Raises
    ------
    ConfigError
        E02 no such encoder; E05 it cannot run in this precision.
    MachineError
        E01 a library is missing, with the line that installs it.
    ModelError
        E04 the weights cannot be had: the steps to get them; C01 they hold more than tensors; E03
        they do not fit the network.
    """
    if name not in ENCODERS:
        what = f"no such encoder; there are {', '.join(sorted(ENCODERS))}"
        raise ConfigError.of("E02", name, what, "choose one of these")
    recipe = ENCODERS[name]
    if recipe.network == "onnx" and precision != "float32":
        what = f"runs in the precision of its graph, not in {precision}"
        raise ConfigError.of("E05", name, what, "leave out --bf16")
    path = find_weights(recipe, weights)
    if recipe.network == "onnx":
        graph = OnnxNetwork(recipe, path, device)
        digest = _digest_with_data(path)
        return Encoder(recipe, graph, weights_sha256=digest, device=device)
    tensors, digest = read_weights(path)
    network = fit_network(recipe, tensors, path)
    return Encoder(recipe, network, weights_sha256=digest, device=device, precision=precision)


def _digest_with_data(path: Path) -> str:
    """Digest a graph and the file of weights beside it, where there is one."""
    beside = path.with_name(f"{path.name}.data")
    digests = [digest_file(p) for p in (path, beside) if p.exists()]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
