"""The kernels a training computes with, from what its options ask for."""

import torch

from momkd.fitting.device import Precision
from momkd.nn.graph_attention import KernelChoice, choose_kernels
from momkd.nn.graph_attention.backends import Wanted


def kernels_of_fit(wanted: Wanted, precision: Precision, device: str) -> KernelChoice:
    """Choose for a device as the options name it; ``bf16-mixed`` is torch's business alone."""
    kind = device.partition(":")[0]
    if kind == "auto":
        if torch.backends.mps.is_available():
            kind = "mps"
        else:
            kind = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "bf16-mixed":
        return choose_kernels("torch")
    return choose_kernels(wanted, device=kind, products="fast" if precision == "fast" else "exact")
