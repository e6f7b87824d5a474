"""The device a model runs on, and what is said when it fails."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from momkd.errors import MachineError
from momkd.fitting.joining import PATIENCE, kind_of_company
from momkd.fitting.sampling import Room
from momkd.nn.processes import ALONE, Processes

Precision: TypeAlias = Literal["32-true", "bf16-mixed", "fast"]

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_LOST_DEVICE = ("CUDA error", "CUDA driver error", "MPS error")


@runtime_checkable
class Fabric(Protocol):
    """What is used of lightning's Fabric, whose import alone takes a second."""

    @property
    def device(self) -> torch.device:
        """The device that was opened."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the precision that was asked for."""

    def backward(self, tensor: Tensor) -> None:
        """Go backward from a scalar."""

    def to_device(self, obj: nn.Module) -> nn.Module:
        """Send a module to the device, in place."""


def make_fabric(device: str, precision: Precision, processes: Processes = ALONE) -> Fabric:
    """Open one device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the best there is.

    ``fast`` is the kernels' own business; everything else is then in float32. Several processes,
    joined before, have one device each: the CPU, or the CUDA device of their number.

    Raises
    ------
    MachineError
        T18 there is no such device.
    """
    several = processes.size > 1
    kind, _, index = (kind_of_company(device) if several else device).partition(":")
    n_devices = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }.get(kind, processes.size)
    if max(int(index or 0), processes.size - 1) >= n_devices:
        what = f"no such device; this machine and this torch offer {n_devices} of kind {kind}"
        raise MachineError.of("T18", device, what, "set fit.device to cpu or auto")
    inner: Literal["32-true", "bf16-mixed"] = "32-true" if precision == "fast" else precision
    from lightning_fabric import Fabric as Lightning
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    if several:
        from lightning_fabric.strategies.ddp import DDPStrategy

        from momkd.fitting.joined_environment import JoinedEnvironment

        strategy = DDPStrategy(cluster_environment=JoinedEnvironment(processes), timeout=PATIENCE)
        n = processes.size
        fabric = Lightning(accelerator=kind, devices=n, precision=inner, strategy=strategy)
        fabric.launch()
        return fabric
    return Lightning(
        accelerator=kind,
        devices=[int(index)] if index else 1,
        precision=inner,
        # one process, also inside a scheduler's job that announces several
        plugins=[LightningEnvironment()],
    )


def room_on(device: torch.device, wanted_gib: float | None) -> Room | None:
    """Give the room for slides that stay on a CUDA device: ``wanted_gib``, or half of what is free.

    None elsewhere: on a CPU they are there already, and other devices share its memory.
    """
    if device.type != "cuda":
        return None
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return Room(free_bytes // 2 if wanted_gib is None else int(wanted_gib * 2**30))


@contextmanager
def machine_faults(where: str) -> Iterator[None]:
    """Turn what torch raises when the machine fails into a refusal that names ``where``.

    Raises
    ------
    MachineError
        T05 out of memory, T18 the device failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(t in text for t in _NO_MEMORY):
            remedy = "lower fit.batch_size or the number of workers, or give more memory"
            raise MachineError.of("T05", where, f"out of memory ({text[:80]})", remedy) from error
        if any(t in text for t in _LOST_DEVICE):
            remedy = "give the same command to go on, or set fit.device to cpu in a new run"
            raise MachineError.of("T18", where, f"device failed ({text[:80]})", remedy) from error
        raise
