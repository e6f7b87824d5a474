"""GATv2 over neighbour lists, and the ways it is computed."""

from momkd.nn.graph_attention.backends import KernelChoice, choose_kernels
from momkd.nn.graph_attention.layer import GATv2
from momkd.nn.graph_attention.tile_graph import (
    Direction,
    TileGraph,
    listening_lists,
    pack_neighbours,
)

__all__ = [
    "Direction",
    "GATv2",
    "KernelChoice",
    "TileGraph",
    "choose_kernels",
    "listening_lists",
    "pack_neighbours",
]
