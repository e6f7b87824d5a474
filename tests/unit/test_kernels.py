"""Compiled loops against plain torch: the same numbers, masks, gradients; and where they fail."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from momkd import compilation
from momkd.errors import ConfigError
from momkd.fitting.kernels import kernels_of_fit
from momkd.nn.graph_attention import GATv2, KernelChoice, TileGraph, backends, choose_kernels
from momkd.nn.graph_attention.counter_dropout import drop_at, edge_mask, row_mask
from momkd.nn.memory_reading import Question
from momkd.nn.slide_reading import read_slides
from momkd.nn.towers import GraphEncoder
from tests.unit.test_graph_attention import random_neighbours

PLAIN = KernelChoice()
COMPILED = choose_kernels("numba")
needs_numba = pytest.mark.skipif(COMPILED.backend != "numba", reason=COMPILED.note)
pytestmark = needs_numba

SIZES = [1, 2, 9, 60, 700, 2_000, pytest.param(20_000, marks=pytest.mark.slow)]
SEED = 11


def make_encoder(kernels, *, dim_in=10, dim=8, n_heads=2, dropout=0.5, dtype=torch.float64):
    torch.manual_seed(3)
    encoder = GraphEncoder(dim_in, dim, n_heads, dropout=dropout, dropout_attention=dropout)
    with torch.no_grad():
        for part in (encoder.graph_1.bias, encoder.graph_2.bias, encoder.norm_1.bias):
            part.uniform_(-1, 1)
        encoder.norm_2.weight.uniform_(0.5, 1.5)
    encoder.kernels = kernels
    return encoder.to(dtype)


def gradients(out, wanted_of):
    pull = torch.sin(torch.arange(out.numel(), dtype=out.dtype, device=out.device)).view_as(out)
    return torch.autograd.grad((out * pull).sum(), wanted_of)


def assert_near(ours, theirs, *, outputs, relative):
    """Outputs by their largest difference; gradients by their norms, against that of the whole."""
    torch.testing.assert_close(ours[0], theirs[0], atol=outputs, rtol=0)
    whole = max(float(g.norm()) for g in theirs[1])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert float((a - b).norm()) <= relative * max(float(b.norm()), 0.1 * whole)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("direction", ["own", "listed_by"])
@pytest.mark.parametrize("n_tiles", SIZES)
def test_encoder_in_double_precision_with_the_same_masks(n_tiles, direction, dropout):
    neighbours = random_neighbours(n_tiles, 8)
    x = torch.randn(n_tiles, 10, dtype=torch.float64, requires_grad=True)
    found = []
    for kernels in (COMPILED, PLAIN):
        encoder = make_encoder(kernels, dropout=dropout)
        out = encoder(x, TileGraph(neighbours, direction), seed=SEED)
        found.append((out, gradients(out, [x, *encoder.parameters()])))
    assert_near(*found, outputs=1e-12, relative=1e-11)


@pytest.mark.parametrize("n_tiles", SIZES)
def test_encoder_in_single_precision(n_tiles):
    torch.manual_seed(n_tiles)
    neighbours = random_neighbours(n_tiles, 8)
    x = torch.randn(n_tiles, 10, requires_grad=True)
    found = []
    for kernels in (COMPILED, PLAIN):
        encoder = make_encoder(kernels, dtype=torch.float32)
        out = encoder(x, TileGraph(neighbours, "own"), seed=SEED)
        found.append((out, gradients(out, [x, *encoder.parameters()])))
    assert_near(*found, outputs=1e-5, relative=1e-4)


@pytest.mark.parametrize(("dim", "n_heads"), [(1, 1), (6, 2), (21, 3), (132, 2)])
def test_widths_that_fit_no_register(dim, n_heads):
    neighbours = random_neighbours(30, 5)
    x = torch.randn(30, 10, dtype=torch.float64, requires_grad=True)
    found = []
    for kernels in (COMPILED, PLAIN):
        encoder = make_encoder(kernels, dim=dim, n_heads=n_heads)
        out = encoder(x, TileGraph(neighbours, "listed_by"), seed=SEED)
        found.append((out, gradients(out, [x, *encoder.parameters()])))
    assert_near(*found, outputs=1e-12, relative=1e-10)


def read(kernels, sizes, *, labels, temperature, training=True, targets=None, dtype=torch.float64):
    n_tiles = sum(sizes)
    torch.manual_seed(n_tiles)
    x = torch.randn(n_tiles, 10, dtype=dtype)
    graph = TileGraph(random_neighbours(n_tiles, 8), "own")
    projection = nn.Linear(8, 5).to(dtype)
    slots = nn.functional.normalize(torch.randn(2, 4, 5, dtype=dtype), dim=-1)
    scales = torch.rand(2, 4, 1, dtype=dtype) + 0.5 if targets == "scaled" else 1.0
    encoder = make_encoder(kernels, dtype=dtype).train(training)
    question = Question(sizes=sizes, slots=slots, targets=slots * scales, labels=labels)
    reading = read_slides(encoder, projection, x, graph, temperature, question, seed=SEED)
    return reading, [*encoder.parameters(), *projection.parameters()]


@pytest.mark.parametrize("targets", ["unit", "scaled"])
@pytest.mark.parametrize(("sizes", "labels"), [([1], [1]), ([700], [0]), ([40, 1, 9], [1, 0, 1])])
def test_reading_and_its_gradient(sizes, labels, targets):
    found = []
    for kernels in (COMPILED, PLAIN):
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        reading, parameters = read(
            kernels, sizes, labels=labels, temperature=temperature, targets=targets
        )
        out = torch.cat([reading.slides.flatten(), reading.pulls])
        found.append((out, gradients(out, [temperature, *parameters])))
        found[-1] += (reading,)
    assert_near(found[0][:2], found[1][:2], outputs=1e-12, relative=1e-10)
    ours, theirs = found[0][2], found[1][2]
    torch.testing.assert_close(ours.attention, theirs.attention, atol=1e-13, rtol=0)
    assert torch.equal(ours.nearest, theirs.nearest)


@pytest.mark.parametrize("labels", [None, [1, 0]])
def test_reading_without_learning(labels, monkeypatch):
    monkeypatch.setattr("momkd.nn.memory_reading.BLOCK_ROWS", 64)
    found = []
    for kernels in (COMPILED, PLAIN):
        with torch.no_grad():
            reading, _ = read(kernels, [300, 3], labels=labels, temperature=0.2, training=False)
        found.append(reading)
    ours, theirs = found
    torch.testing.assert_close(ours.attention, theirs.attention, atol=1e-13, rtol=0)
    torch.testing.assert_close(ours.slides, theirs.slides, atol=1e-12, rtol=0)
    assert (ours.pulls is None) == (labels is None)
    assert (ours.points is None) == (labels is None)


def test_a_reading_goes_backward_once():
    reading, parameters = read(COMPILED, [20], labels=[1], temperature=0.2)
    out = reading.slides.sum()
    torch.autograd.grad(out, parameters, retain_graph=True, allow_unused=True)
    with pytest.raises(RuntimeError, match="once"):
        torch.autograd.grad(out, parameters, allow_unused=True)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_stored_precision_is_converted(stored):
    graph = TileGraph(random_neighbours(50, 8), "own")
    x = torch.randn(50, 10).to(stored)
    encoder = make_encoder(COMPILED, dtype=torch.float32)
    found = []
    for given in (x, x.float()):
        out = encoder(given, graph, seed=SEED)
        found.append((out, gradients(out, list(encoder.parameters()))))
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(a, b)


def test_low_products_are_near():
    choice = choose_kernels("numba", products="fast")
    if choice.products != "fast":
        pytest.skip(choice.note)
    graph = TileGraph(random_neighbours(300, 8), "own")
    x = torch.randn(300, 64)
    found = []
    for kernels in (choice, COMPILED):
        encoder = make_encoder(kernels, dim_in=64, dim=32, dtype=torch.float32)
        out = encoder(x, graph, seed=SEED)
        found.append((out, gradients(out, list(encoder.parameters()))))
        with torch.no_grad():
            torch.testing.assert_close(encoder(x, graph, seed=SEED), out, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[0][0], found[1][0], atol=0.1, rtol=0)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.98
    assert not torch.equal(found[0][0], found[1][0])
    assert choice.identity != COMPILED.identity


def test_threads_change_no_bit():
    x = torch.randn(3000, 10, requires_grad=True)
    graph = TileGraph(random_neighbours(3000, 8), "own")
    layer = GATv2(10, 8, 2, dropout=0.5)
    layer.kernels = COMPILED
    found = []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            out = layer(x, graph, seed=SEED)
            # gradients that pass no product of torch's
            found.append([out, *gradients(out, [layer.attention, layer.bias])])
    finally:
        torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("direction", ["own", "listed_by"])
def test_edges_are_the_lists_without_gaps(direction):
    neighbours = random_neighbours(40, 6)
    graph = TileGraph(neighbours, direction)
    starts, heard, from_, who, edge = graph.edges
    lists = graph.lists
    assert np.array_equal(heard, lists[lists >= 0].numpy())
    assert np.array_equal(np.diff(starts), (lists >= 0).sum(dim=1).numpy())
    assert np.array_equal(graph.places[lists >= 0], np.arange(len(heard)))
    hearer = np.repeat(np.arange(40), np.diff(starts))
    for j in range(40):
        places = edge[from_[j] : from_[j + 1]]
        assert (heard[places] == j).all()
        assert np.array_equal(hearer[places], who[from_[j] : from_[j + 1]])
    assert np.array_equal(np.sort(edge), np.arange(len(heard)))
    given = TileGraph.of(lists).edges
    assert np.array_equal(given[0], starts)
    assert np.array_equal(given[1], heard)


@pytest.mark.parametrize("n_tiles", [1, 2, 40])
@pytest.mark.parametrize("direction", ["own", "listed_by"])
def test_edges_as_tensors_are_those_of_the_loops(n_tiles, direction):
    neighbours = random_neighbours(n_tiles, 6)
    for graph in (
        TileGraph(neighbours, direction),
        TileGraph.of(TileGraph(neighbours, direction).lists),
    ):
        n_edges = len(graph.edges[1])
        for ours, theirs in zip(graph.index, graph.edges, strict=True):
            assert ours.dtype == torch.int32
            size = len(theirs) if len(theirs) == n_tiles + 1 else n_edges
            assert np.array_equal(ours[:size].numpy(), theirs)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_of_the_loops_are_those_of_the_tensors(rate):
    from momkd.nn.graph_attention.loops.numbers import edge_factor, row_factors

    drop = drop_at(7, 1, rate)
    seed, scale = np.uint64(drop.seed), np.float64(drop.scale)
    rows = row_mask(drop, 50, 21, torch.zeros((), dtype=torch.float64)).numpy()
    factors = np.empty((4, 6))
    for i, row in enumerate(rows):
        row_factors(seed, i, drop.threshold, scale, factors)
        assert np.array_equal(factors.ravel()[:21], row)
    places = torch.arange(200).view(20, 10)
    edges = edge_mask(drop, places, 3, torch.zeros((), dtype=torch.float64)).flatten()
    loops = [edge_factor(seed, k, drop.threshold, scale) for k in range(600)]
    assert np.array_equal(loops, edges.numpy())


def test_masks_keep_their_share_and_are_not_alike():
    like = torch.zeros(())
    masks = [row_mask(drop_at(*site, 0.25), 2000, 64, like) for site in [(5, 0), (5, 1), (6, 0)]]
    for mask in masks:
        assert float(mask.mean()) == pytest.approx(1, abs=0.01)
        assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
        kept = (mask > 0).float() - 0.75
        # neither neighbours in a row nor rows nor the four draws of a word go together
        for a, b in [
            (kept[:, 1:], kept[:, :-1]),
            (kept[1:], kept[:-1]),
            (kept[:, 16:], kept[:, :-16]),
        ]:
            assert abs(float((a * b).mean())) < 0.003
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        both = ((masks[a] > 0) & (masks[b] > 0)).float().mean()
        assert float(both) == pytest.approx(0.75**2, abs=0.01)
    assert drop_at(1, 0, 0.0).scale == 1


@pytest.fixture
def fresh(monkeypatch):
    """Let the choice be made anew, and forget it afterwards."""
    forget()
    yield monkeypatch
    monkeypatch.undo()
    forget()


def forget():
    for cached in (
        *(compilation.numba_fault, compilation.triton_fault),
        *(backends._fault, backends.default_kernels),
    ):
        cached.cache_clear()


def test_without_numba(fresh):
    fresh.setitem(sys.modules, "numba", None)
    choice = choose_kernels()
    assert choice.backend == "torch"
    assert "numba" in choice.note
    assert choice.note in choice.say()


def test_loops_that_do_not_compile(fresh):
    def broken(backend, device) -> float:
        raise TypeError("no implementation\nof this")

    fresh.setattr("momkd.nn.graph_attention.trial.trial_error", broken)
    choice = choose_kernels(products="fast")
    assert choice.backend == "torch"
    assert "TypeError: no implementation); products are exact" in choice.note


@pytest.mark.parametrize("error", [0.5, float("nan")])
def test_loops_that_are_wrong(error, fresh):
    fresh.setattr("momkd.nn.graph_attention.trial.trial_error", lambda *_: error)
    assert choose_kernels("numba").backend == "torch"
    assert "off by" in choose_kernels("numba").note
    encoder = make_encoder(None)
    encoder(torch.randn(3, 10).double(), TileGraph(random_neighbours(3, 2), "own"))


def test_the_environment_rules_numba_out(fresh):
    fresh.setenv("MOMKD_KERNELS", "torch")
    assert choose_kernels().backend == choose_kernels("numba").backend == "torch"
    forget()
    fresh.setenv("MOMKD_KERNELS", "fortran")
    for device in ("cpu", "cuda"):
        with pytest.raises(ConfigError, match=r"'fortran', wanted auto, torch, numba or triton"):
            choose_kernels(device=device)


def test_the_environment_on_a_card(fresh):
    fresh.setattr(torch.cuda, "is_available", lambda: True)
    for wanted in ("torch", "numba"):
        forget()
        fresh.setenv("MOMKD_KERNELS", wanted)
        choice = choose_kernels(device="cuda")
        assert choice == KernelChoice(note=f"MOMKD_KERNELS is {wanted}")
    forget()
    fresh.setenv("MOMKD_KERNELS", "triton")
    assert choose_kernels().backend == "numba"  # a CPU's default is not touched
    assert compilation.numba_fault() is None


def test_triton_on_a_card(fresh):
    """Everything but the card: that the choice is made, and by what."""
    tried = []
    fresh.setattr(torch.cuda, "is_available", lambda: True)
    fresh.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    fresh.setattr(compilation, "_import_fault", lambda name: None)
    fresh.setattr(backends, "triton_version", lambda: "9.9")
    fresh.setattr(
        "momkd.nn.graph_attention.trial.trial_error",
        lambda backend, device: tried.append((backend, device)) or 1e-7,
    )
    choice = choose_kernels(device="cuda", products="fast")
    assert tried == [("triton", "cuda")]
    assert choice == KernelChoice(backend="triton", products="fast", version="9.9")
    assert "the numba kernels run on a CPU" in choose_kernels("numba", device="cuda").note
    fresh.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    choice = choose_kernels(device="cuda", products="fast")
    assert choice.products == "exact"
    assert "does not multiply bfloat16" in choice.note
    assert kernels_of_fit("auto", "32-true", "cuda:1").backend == "triton"
    assert kernels_of_fit("auto", "bf16-mixed", "cuda").backend == "torch"


def test_triton_that_is_wrong_or_absent(fresh):
    fresh.setattr(torch.cuda, "is_available", lambda: True)
    fresh.setattr(compilation, "_import_fault", lambda name: None)
    fresh.setattr("momkd.nn.graph_attention.trial.trial_error", lambda *_: 0.5)
    assert choose_kernels(device="cuda").note == (
        "the triton kernels are off by 5.0e-01 on this machine"
    )
    fresh.undo()
    forget()
    fresh.setattr(torch.cuda, "is_available", lambda: True)
    fresh.setitem(sys.modules, "triton", None)
    choice = choose_kernels("triton", device="cuda", products="fast")
    assert choice.backend == "torch"
    assert "triton" in choice.note
    assert "products are exact" in choice.note


def test_triton_wanted_on_a_cpu_is_answered_with_its_default():
    choice = choose_kernels("triton")
    assert choice.backend == "numba"
    assert choice.note == "the triton kernels run on a CUDA device, not on cpu"
    assert kernels_of_fit("triton", "32-true", "cpu") == choice


def test_other_devices_and_autocast_stay_with_torch():
    assert choose_kernels(device="mps") == KernelChoice()
    assert "not on mps" in choose_kernels("numba", device="mps").note
    assert "exact" in choose_kernels(device="mps", products="fast").note
    number = torch.zeros(1)
    assert backends.compiled_backend(COMPILED, number) == "numba"
    assert backends.compiled_backend(COMPILED, torch.zeros(1, device="meta")) is None
    assert backends.compiled_backend(COMPILED, torch.zeros(1, dtype=torch.float16)) is None
    assert backends.compiled_backend(KernelChoice(backend="triton"), number) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert backends.compiled_backend(COMPILED, number) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card():
    assert choose_kernels(device="cuda") == KernelChoice(note="torch finds no CUDA device")
