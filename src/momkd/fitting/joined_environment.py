"""Processes that have joined already, as fabric wants to be told of them."""

from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from momkd.nn.processes import Processes


class JoinedEnvironment(LightningEnvironment):
    """Tells fabric of processes that are already there, whatever a scheduler announces."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """Whether someone else starts the processes."""
        return True

    def world_size(self) -> int:
        """Give how many there are."""
        return self._processes.size

    def set_world_size(self, size: int) -> None:
        """Change nothing: the number is known."""

    def global_rank(self) -> int:
        """Give the number of this process."""
        return self._processes.rank

    def set_global_rank(self, rank: int) -> None:
        """Change nothing: the number is known."""

    def local_rank(self) -> int:
        """Give the number of this process: all are on one machine."""
        return self._processes.rank

    def node_rank(self) -> int:
        """Give the number of the machine: the only one."""
        return 0

    def teardown(self) -> None:
        """Leave the environment's variables alone: none was set."""
