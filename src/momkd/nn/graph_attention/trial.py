"""A few tiles through a compiled backend and plainly: whether it works here and says the same."""

import torch

from momkd.nn.graph_attention.backends import CompiledBackend
from momkd.nn.graph_attention.counter_dropout import drop_at, edge_mask
from momkd.nn.graph_attention.fused_layer import hear_fused
from momkd.nn.graph_attention.plain import hear_plainly
from momkd.nn.graph_attention.tile_graph import TileGraph


def trial_error(backend: CompiledBackend, device: str = "cpu") -> float:
    """Give the largest difference, outputs and gradients, of both ways; compiles the backend's."""
    n_tiles, n_heads, dim_head = 5, 2, 3
    dim = n_heads * dim_head
    neighbours = torch.tensor([[1, 2], [0, 2], [3, -1], [2, 1], [-1, -1]]).int().to(device)
    graph = TileGraph(neighbours, "listed_by")
    drop = drop_at(1, 0, 0.5)
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.sin(torch.arange(n_tiles * 2.0 * dim)).view(n_tiles, 2 * dim).to(device)
        attention = torch.cos(torch.arange(float(dim))).view(n_heads, dim_head).to(device)
        bias = torch.linspace(-1, 1, dim).to(device)
        ours = [t.clone().requires_grad_() for t in (x, attention, bias)]
        theirs = [t.clone().requires_grad_() for t in (x, attention, bias)]
        fused = hear_fused(backend, ours[0], ours[1], ours[2], graph, drop)
        kept = edge_mask(drop, graph.places, n_heads, x)
        source, target = torch.split(theirs[0], dim, dim=1)
        plain = hear_plainly(source, target, graph.lists, kept, theirs[1]) + theirs[2]
        found = torch.autograd.grad((fused * fused.detach().sin()).sum(), ours)
        wanted = torch.autograd.grad((plain * plain.detach().sin()).sum(), theirs)
    pairs = zip((fused, *found), (plain, *wanted), strict=True)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)
