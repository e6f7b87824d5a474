"""How several processes become one company: a meeting place, and torch's process group.

Whoever starts the processes holds the meeting place, so no port is chosen that another program
could take first. How long they wait for one another has no limit worth the name: whoever started
them also watches them, and ends all when one is gone.
"""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from momkd.errors import MachineError
from momkd.nn.processes import ALONE, Processes, SeveralProcesses

PATIENCE = timedelta(days=30)
_HOST = "127.0.0.1"


def require_devices(device: str, size: int) -> None:
    """Make sure that there is a device for each of several processes.

    Raises
    ------
    MachineError
        T18 there is not, or this torch has no way to join processes.
    """
    remedy = "lower fit.devices, or set fit.device to cpu"
    if not dist.is_available():
        raise MachineError.of("T18", "fit.devices", "this torch cannot join processes", remedy)
    n = torch.cuda.device_count()
    if kind_of_company(device) == "cuda" and n < size:
        what = f"{size} processes want a device each; this machine and this torch offer {n}"
        raise MachineError.of("T18", device, what, remedy)


def open_meeting() -> Any:
    """Open a meeting place on this machine; it has a ``port`` and closes with the object."""
    return _store(0, is_master=True, wait_for_workers=False)


def join_processes(port: int, rank: int, size: int, device: str) -> Processes:
    """Meet ``size - 1`` others at a port: by gloo on the CPU, and by NCCL between CUDA devices.

    Parameters
    ----------
    port
        Of the meeting place on this machine.
    rank, size
        Number of this process, from 0, and how many there will be.
    device
        As the options of a training name it.

    Raises
    ------
    MachineError
        T18 as :func:`require_devices`.
    """
    if size == 1:
        return ALONE
    require_devices(device, size)
    backend = "gloo"
    if kind_of_company(device) == "cuda":
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    store = _store(port, is_master=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    return SeveralProcesses()


def leave_processes() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def kind_of_company(device: str) -> str:
    """Give the kind of device that several processes have one each of: ``cuda``, or ``cpu``."""
    kind = device.partition(":")[0]
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return kind


def _store(port: int, **how: bool) -> Any:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(_HOST, port, timeout=PATIENCE, **how)
