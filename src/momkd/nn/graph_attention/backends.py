"""Which way graph attention is computed: compiled loops where they work, plain torch anywhere.

A backend offers the same three things under one :class:`KernelChoice`: a layer
(:class:`layer.GATv2`), the two-layer encoder (:class:`momkd.nn.towers.GraphEncoder`), and slides
read against the memory (:func:`momkd.nn.slide_reading.read_slides`). ``torch`` is the oracle;
``numba`` (on a CPU) and ``triton`` (on a card) pass the same tests and never hold a vector for an
edge.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from momkd.compilation import (
    first_line,
    numba_fault,
    numba_version,
    triton_fault,
    triton_interprets,
    triton_version,
)

CompiledBackend = Literal["numba", "triton"]
Backend = Literal["torch", "numba", "triton"]
Wanted = Literal["auto", "torch", "numba", "triton"]
Products = Literal["exact", "fast"]

# what a kind of device computes with; any other kind has torch only
_BACKENDS: dict[str, CompiledBackend] = {"cpu": "numba", "cuda": "triton"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelChoice:
    """A backend, and the precision of its products.

    ``exact`` products are in the parameters' type, ``fast`` ones in bfloat16; ``note`` says why it
    is not what was asked for, empty if it is.
    """

    backend: Backend = "torch"
    products: Products = "exact"
    version: str = ""
    note: str = ""

    @property
    def identity(self) -> str:
        """What a training must repeat to go on bit for bit."""
        parts = [self.backend, self.version, "bf16 products" if self.products == "fast" else ""]
        return " ".join(part for part in parts if part)

    def say(self) -> str:
        """Give one line for a reader."""
        return f"graph kernels: {self.identity}" + (f" ({self.note})" if self.note else "")


def choose_kernels(
    wanted: Wanted = "auto", *, device: str = "cpu", products: Products = "exact"
) -> KernelChoice:
    """Choose a backend; what is wanted and not to be had is replaced, and the note says so.

    Parameters
    ----------
    wanted
        ``auto``: numba on a CPU, triton on a CUDA device, where they work; else torch. One that
        belongs to the other kind of device is answered with this device's default. The environment
        variable ``MOMKD_KERNELS=torch`` rules both out for the whole process.
    device
        Kind of device the model runs on.
    products
        ``fast`` needs a compiled backend and a processor that multiplies bfloat16.

    Raises
    ------
    ConfigError
        G04 ``MOMKD_KERNELS`` names no backend.
    """
    fast = products == "fast"
    lost = "; products are exact" if fast else ""
    if wanted == "torch":
        return KernelChoice(note=f"bf16 products need compiled kernels{lost}" if fast else "")
    backend = _BACKENDS.get(device)
    misplaced = ""
    if wanted not in ("auto", backend):
        home = "a CPU" if wanted == "numba" else "a CUDA device"
        misplaced = f"the {wanted} kernels run on {home}, not on {device}"
    if backend is None:
        if not misplaced and fast:
            misplaced = f"there are no compiled kernels for {device}"
        return KernelChoice(note=f"{misplaced}{lost}" if misplaced else "")
    if (fault := _fault(backend)) is not None:
        return KernelChoice(note="; ".join(part for part in (misplaced, fault) if part) + lost)
    version = numba_version() if backend == "numba" else triton_version()
    notes = [misplaced] if misplaced else []
    if fast and not _multiplies_bfloat16(device):
        notes.append("this processor does not multiply bfloat16; products are exact")
        products = "exact"
    return KernelChoice(backend=backend, products=products, version=version, note="; ".join(notes))


def compiled_backend(choice: KernelChoice | None, *tensors: Tensor) -> CompiledBackend | None:
    """Say which compiled backend these tensors go through; None for plain torch."""
    kind = tensors[-1].device.type
    if torch.compiler.is_exporting():
        return None
    if kind not in _BACKENDS or any(t.device.type != kind for t in tensors):
        return None
    if tensors[-1].dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(kind):
        return None
    backend = (choice or default_kernels(kind)).backend
    if backend == _BACKENDS[kind]:
        return backend
    # the interpreter runs programs on a CPU: for tests, far too slow for anything else
    return "triton" if backend == "triton" and triton_interprets() else None


@functools.cache
def default_kernels(device: str = "cpu") -> KernelChoice:
    """Give the choice for modules that were told nothing."""
    return choose_kernels(device=device)


@functools.cache
def _fault(backend: CompiledBackend) -> str | None:
    """Say why a compiled backend cannot be used; compiles it and tries it on a few tiles."""
    fault = numba_fault() if backend == "numba" else triton_fault()
    if fault is not None:
        return fault
    try:
        from momkd.nn.graph_attention.trial import trial_error

        error = trial_error(backend, "cpu" if backend == "numba" else "cuda")
    except Exception as broken:  # noqa: BLE001  whatever a compiler raises, torch can do it
        what = f"{type(broken).__name__}: {first_line(broken)}"
        return f"the {backend} kernels do not compile ({what})"
    if not error < 1e-4:  # also where it is NaN
        return f"the {backend} kernels are off by {error:.1e} on this machine"
    return None


def _multiplies_bfloat16(device: str) -> bool:
    if device == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cuda.get_device_capability() >= (8, 0)
