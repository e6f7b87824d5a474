"""GATv2 over neighbour lists, against torch_geometric's."""

import pytest
import torch
from torch_geometric.nn import GATv2Conv

from momkd.nn.graph_attention import (
    GATv2,
    KernelChoice,
    TileGraph,
    choose_kernels,
    listening_lists,
    pack_neighbours,
)


def random_neighbours(n_tiles: int, k: int, *, shorten: bool = True) -> torch.Tensor:
    """Distinct neighbours of each tile, -1 at the end of some lists, a few tiles with none."""
    n_near = min(k, n_tiles - 1)
    steps = torch.stack([torch.randperm(n_tiles - 1)[:n_near] + 1 for _ in range(n_tiles)])
    neighbours = torch.full((n_tiles, k), -1)
    neighbours[:, :n_near] = (torch.arange(n_tiles)[:, None] + steps) % n_tiles
    if shorten:
        n_kept = torch.randint(n_near + 1, (n_tiles, 1))
        neighbours[torch.arange(k) >= n_kept] = -1
    return neighbours.int()


def edges(neighbours: torch.Tensor, direction: str) -> torch.Tensor:
    lister, place = (neighbours >= 0).nonzero(as_tuple=True)
    listed = neighbours[lister, place].long()
    # source hears nobody, target hears source
    return torch.stack([listed, lister] if direction == "own" else [lister, listed])


def same_weights(dim_in: int, dim_head: int, n_heads: int):
    layer = GATv2(dim_in, dim_head, n_heads)
    oracle = GATv2Conv(dim_in, dim_head, heads=n_heads)
    with torch.no_grad():
        oracle.bias.uniform_()
        layer.bias.copy_(oracle.bias)
        layer.attention.copy_(oracle.att[0])
        for ours, theirs in [(layer.source, oracle.lin_l), (layer.target, oracle.lin_r)]:
            ours.weight.copy_(theirs.weight)
            ours.bias.copy_(theirs.bias)
    return layer, oracle


SIZES = [1, 2, 5, 9, 50, 500, 2_000, pytest.param(20_000, marks=pytest.mark.slow)]


@pytest.fixture(params=["torch", "numba"])
def kernels(request) -> KernelChoice:
    choice = choose_kernels(request.param)
    if choice.backend != request.param:
        pytest.skip(choice.note)
    return choice


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("direction", ["own", "listed_by"])
@pytest.mark.parametrize("n_tiles", SIZES)
def test_equals_torch_geometric(n_tiles, direction, dtype, kernels):
    torch.manual_seed(n_tiles)
    layer, oracle = (part.to(dtype) for part in same_weights(10, 4, 2))
    layer.kernels = kernels
    neighbours = random_neighbours(n_tiles, 8)
    x = torch.randn(n_tiles, 10, dtype=dtype, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    out = layer(x, TileGraph(neighbours, direction))
    wanted = oracle(y, edges(neighbours, direction))
    forward, backward = (1e-5, 1e-4) if dtype == torch.float32 else (1e-12, 1e-10)
    torch.testing.assert_close(out, wanted, atol=forward, rtol=0)
    pull = torch.randn(out.shape, dtype=dtype)
    (out * pull).sum().backward()
    (wanted * pull).sum().backward()
    pairs = [
        (x.grad, y.grad),
        (layer.attention.grad, oracle.att.grad[0]),
        (layer.bias.grad, oracle.bias.grad),
        (layer.source.weight.grad, oracle.lin_l.weight.grad),
        (layer.target.weight.grad, oracle.lin_r.weight.grad),
        (layer.source.bias.grad, oracle.lin_l.bias.grad),
        (layer.target.bias.grad, oracle.lin_r.bias.grad),
    ]
    for ours, theirs in pairs:
        error = (ours - theirs).norm()
        # where softmax makes a gradient vanish, rounding alone is left: hence the floor
        assert float(error) <= backward * max(float(theirs.norm()), 1e-1)


def test_initial_weights_are_spread_like_torch_geometrics():
    torch.manual_seed(0)
    layer, oracle = GATv2(300, 40, 2), GATv2Conv(300, 40, heads=2)
    for ours, theirs in [
        (layer.source.weight, oracle.lin_l.weight),
        (layer.target.bias, oracle.lin_r.bias),
        (layer.attention, oracle.att),
    ]:
        assert float(ours.detach().abs().max()) == pytest.approx(
            float(theirs.detach().abs().max()), rel=0.1
        )
        assert float(ours.detach().std()) == pytest.approx(float(theirs.detach().std()), rel=0.2)
    assert not layer.bias.any()


def test_directions_by_hand():
    neighbours = torch.tensor([[1, 2], [2, -1], [0, 1], [-1, -1], [0, -1]]).int()
    own = listening_lists(neighbours, "own")
    assert own.tolist() == [[0, 1, 2], [1, 2, -1], [2, 0, 1], [3, -1, -1], [4, 0, -1]]
    listed_by = listening_lists(neighbours, "listed_by")
    assert listed_by.tolist() == [[0, 2, 4], [1, 0, 2], [2, 0, 1], [3, -1, -1], [4, -1, -1]]


@pytest.mark.parametrize("direction", ["own", "listed_by"])
@pytest.mark.parametrize("k", [0, 8])
def test_one_tile_hears_itself(direction, k, kernels):
    neighbours = torch.full((1, k), -1).int()
    assert listening_lists(neighbours, direction).flatten()[0] == 0
    layer = GATv2(3, 2, 2)
    layer.kernels = kernels
    x = torch.randn(1, 3)
    out = layer(x, listening_lists(neighbours, direction))
    torch.testing.assert_close(out, layer.source(x) + layer.bias)


@pytest.mark.parametrize("direction", ["own", "listed_by"])
def test_packed_bags_do_not_hear_each_other(direction, kernels):
    torch.manual_seed(1)
    layer = GATv2(6, 4, 2).double()
    layer.kernels = kernels
    parts = [random_neighbours(n, k) for n, k in [(1, 0), (12, 8), (3, 2)]]
    xs = [torch.randn(len(part), 6).double() for part in parts]
    lists = listening_lists(pack_neighbours(parts), direction)
    packed = layer(torch.cat(xs), lists)
    apart = [layer(x, listening_lists(part, direction)) for x, part in zip(xs, parts, strict=True)]
    torch.testing.assert_close(packed, torch.cat(apart), atol=1e-13, rtol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("block_edges", [1, 100, 333])
def test_blocks_change_no_number(block_edges, dropout):
    neighbours = random_neighbours(77, 8)
    results = []
    for edges_at_once in (10**9, block_edges):
        torch.manual_seed(2)
        layer = GATv2(6, 4, 2, dropout=dropout, block_edges=edges_at_once).double()
        layer.kernels = choose_kernels("torch")
        x = torch.randn(77, 6).double().requires_grad_()
        out = layer(x, listening_lists(neighbours, "own"))
        out.square().sum().backward()
        with torch.no_grad():
            silent = layer.eval()(x, listening_lists(neighbours, "own"))
        results.append([out, silent, x.grad, *(p.grad for p in layer.parameters())])
    whole, blocks = results
    for a, b in zip(whole, blocks, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-11)


def test_dropout_acts_on_coefficients(kernels):
    torch.manual_seed(5)
    layer = GATv2(2, 1, 1, dropout=0.5)
    layer.kernels = kernels
    with torch.no_grad():
        layer.source.weight.zero_()
        layer.source.bias.fill_(1)
    lists = listening_lists(random_neighbours(4000, 3, shorten=False), "own")
    out = layer(torch.randn(4000, 2), lists).detach()
    assert not torch.equal(out, layer(torch.randn(4000, 2), lists))
    # every source is 1 and alpha is even: each output is a number of kept quarters, doubled
    assert set(out.flatten().mul(2).round(decimals=4).tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert float(out.mean()) == pytest.approx(1, abs=0.05)
    assert layer.eval()(torch.randn(4000, 2), lists).detach().allclose(torch.ones(4000, 1))
