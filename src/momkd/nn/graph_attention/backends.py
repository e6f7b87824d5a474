"""Which way graph attention is computed: compiled loops where they work, plain torch anywhere.

A backend offers the same three things under one :class:`KernelChoice`: a layer
(:class:`layer.GATv2`), the two-layer encoder (:class:`momkd.nn.towers.GraphEncoder`), and slides
read against the memory (:func:`momkd.nn.slide_reading.read_slides`). ``torch`` is the oracle;
``numba`` passes the same tests and never holds a vector for an edge.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from momkd.compilation import first_line, numba_fault, numba_version

Backend = Literal["torch", "numba"]
Wanted = Literal["auto", "torch", "numba"]
Products = Literal["exact", "fast"]


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
        ``auto``: numba on a CPU where it works, else torch. The environment variable
        ``MOMKD_KERNELS=torch`` rules numba out for the whole process.
    device
        Kind of device the model runs on.
    products
        ``fast`` needs numba and a processor that multiplies bfloat16.

    Raises
    ------
    ConfigError
        G04 ``MOMKD_KERNELS`` names no backend.
    """
    fast = products == "fast"
    lost = "; products are exact" if fast else ""
    if wanted == "torch":
        return KernelChoice(note=f"bf16 products need the numba kernels{lost}" if fast else "")
    if device != "cpu":
        note = f"the numba kernels run on a CPU, not on {device}{lost}"
        return KernelChoice(note=note if fast or wanted == "numba" else "")
    if (fault := _fault()) is not None:
        return KernelChoice(note=f"{fault}{lost}")
    version = numba_version()
    if fast and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        note = "this processor does not multiply bfloat16; products are exact"
        return KernelChoice(backend="numba", version=version, note=note)
    return KernelChoice(backend="numba", products=products, version=version)


def compiles_for(choice: KernelChoice | None, *tensors: Tensor) -> bool:
    """Say whether these tensors go through compiled loops."""
    if (
        torch.compiler.is_exporting()
        or torch.is_autocast_enabled("cpu")
        or any(t.device.type != "cpu" for t in tensors)
    ):
        return False
    if tensors[-1].dtype not in (torch.float32, torch.float64):
        return False
    return (choice or default_kernels()).backend == "numba"


@functools.cache
def default_kernels() -> KernelChoice:
    """Give the choice for modules that were told nothing."""
    return choose_kernels()


@functools.cache
def _fault() -> str | None:
    """Say why the compiled loops cannot be used; compiles and tries them on a few tiles."""
    if (fault := numba_fault()) is not None:
        return fault
    try:
        from momkd.nn.graph_attention.trial import trial_error

        error = trial_error()
    except Exception as fault_:  # noqa: BLE001  whatever a compiler raises, torch can do it
        return f"the numba kernels do not compile ({type(fault_).__name__}: {first_line(fault_)})"
    if not error < 1e-4:  # also where it is NaN
        return f"the numba kernels are off by {error:.1e} on this machine"
    return None
