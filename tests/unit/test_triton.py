"""Graph attention's triton programs against plain torch.

They run on a CUDA device where there is one. Elsewhere triton's interpreter runs them, in a process
of its own (:func:`test_under_the_interpreter`, slow): it must be asked for before triton is
imported. And they are compiled for cards that are not there, down to machine code.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from momkd.compilation import triton_interprets
from momkd.nn.graph_attention import (
    GATv2,
    KernelChoice,
    TileGraph,
    choose_kernels,
    pack_neighbours,
)
from momkd.nn.graph_attention.counter_dropout import NO_DROP, drop_at, edge_mask, row_mask
from tests.unit import test_kernels as compared
from tests.unit.test_graph_attention import random_neighbours

PLAIN, TRITON = KernelChoice(), KernelChoice(backend="triton")
FAST = KernelChoice(backend="triton", products="fast")
SEED = 11

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
runs = pytest.mark.skipif(
    DEVICE == "cpu" and not triton_interprets(),
    reason="no CUDA device; test_under_the_interpreter (slow) runs this",
)

# the interpreter goes through programs one by one
SIZES = [1, 2, 9, 60, 700, 2_000, 20_000] if DEVICE == "cuda" else [1, 9, 50]


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cuda" or triton_interprets(), reason="run directly here")
def test_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "MOMKD_KERNELS": "torch"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "no CUDA device" not in done.stdout


def both_ways(graph, x, choices=(TRITON, PLAIN), **options):
    found = []
    for kernels in choices:
        encoder = compared.make_encoder(kernels, **options).to(DEVICE)
        out = encoder(x, graph, seed=SEED)
        wanted = [*([x] if x.requires_grad else []), *encoder.parameters()]
        found.append((out, compared.gradients(out, wanted)))
    return found


def on_device(n_tiles, direction, k=8):
    return TileGraph(random_neighbours(n_tiles, k).to(DEVICE), direction)


@runs
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("direction", ["own", "listed_by"])
@pytest.mark.parametrize("n_tiles", SIZES)
def test_encoder_in_double_precision_with_the_same_masks(n_tiles, direction, dropout):
    graph = on_device(n_tiles, direction)
    x = torch.randn(n_tiles, 10, dtype=torch.float64, device=DEVICE, requires_grad=True)
    found = both_ways(graph, x, dropout=dropout)
    compared.assert_near(*found, outputs=1e-12, relative=1e-11)


@runs
@pytest.mark.parametrize("n_tiles", SIZES)
def test_encoder_in_single_precision(n_tiles):
    torch.manual_seed(n_tiles)
    graph = on_device(n_tiles, "own")
    x = torch.randn(n_tiles, 10, device=DEVICE, requires_grad=True)
    found = both_ways(graph, x, dtype=torch.float32)
    compared.assert_near(*found, outputs=1e-5, relative=1e-4)


@runs
def test_widths_of_the_paper():
    torch.manual_seed(0)
    graph = on_device(30, "listed_by")
    x = torch.randn(30, 40, device=DEVICE)
    found = both_ways(graph, x, dim_in=40, dim=256, dtype=torch.float32)
    compared.assert_near(*found, outputs=1e-5, relative=1e-4)


@runs
@pytest.mark.parametrize(("dim", "n_heads"), [(1, 1), (6, 2), (21, 3), (132, 2)])
def test_widths_that_are_no_powers_of_two(dim, n_heads):
    graph = on_device(30, "listed_by", 5)
    x = torch.randn(30, 10, dtype=torch.float64, device=DEVICE, requires_grad=True)
    found = both_ways(graph, x, dim=dim, n_heads=n_heads)
    compared.assert_near(*found, outputs=1e-12, relative=1e-10)


@runs
def test_a_layer_alone_goes_backward_twice():
    graph = on_device(50, "listed_by")
    x = torch.randn(50, 10, dtype=torch.float64, device=DEVICE, requires_grad=True)
    layer = GATv2(10, 4, 2, dropout=0.5).double().to(DEVICE)
    found = []
    for kernels in (TRITON, PLAIN):
        layer.kernels = kernels
        out = layer(x, graph, seed=SEED)
        wanted = [x, *layer.parameters()]
        first = torch.autograd.grad(out.square().sum(), wanted, retain_graph=True)
        again = torch.autograd.grad(out.square().sum(), wanted)
        # plain torch adds up in any order on a card
        if kernels is TRITON or DEVICE == "cpu":
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        found.append((out, first))
    compared.assert_near(*found, outputs=1e-12, relative=1e-11)


@runs
def test_lists_that_are_given_and_may_be_empty():
    lists = on_device(40, "listed_by").lists.clone()
    lists[3] = -1
    x = torch.randn(40, 10, dtype=torch.float64, device=DEVICE)
    layer = GATv2(10, 4, 2).double().to(DEVICE)
    layer.kernels = TRITON
    ours = layer(x, lists)
    layer.kernels = PLAIN
    theirs = layer(x, lists)
    heard = torch.arange(40) != 3
    torch.testing.assert_close(ours[heard], theirs[heard], atol=1e-12, rtol=0)
    assert torch.equal(ours[3], layer.bias)


@runs
def test_bags_packed_into_one_graph_are_what_they_are_alone():
    parts = [random_neighbours(n, k) for n, k in ((20, 8), (1, 3), (33, 5))]
    sizes = [len(part) for part in parts]
    x = torch.randn(sum(sizes), 10, dtype=torch.float64, device=DEVICE)
    graph = TileGraph(pack_neighbours(parts).to(DEVICE), "listed_by")
    encoder = compared.make_encoder(TRITON).to(DEVICE)
    found = both_ways(graph, x)
    compared.assert_near(*found, outputs=1e-12, relative=1e-11)
    encoder.eval()
    with torch.no_grad():
        packed = torch.split(encoder(x, graph), sizes)
        for part, own, together in zip(parts, torch.split(x, sizes), packed, strict=True):
            alone = encoder(own, TileGraph(part.to(DEVICE), "listed_by"))
            torch.testing.assert_close(alone, together, atol=1e-12, rtol=0)


@runs
@pytest.mark.parametrize("targets", ["unit", "scaled"])
def test_packed_bags_read_against_the_memory(targets, monkeypatch):
    if DEVICE == "cuda":
        torch.set_default_device("cuda")
    monkeypatch.setattr(compared, "random_neighbours", lambda n, k: random_on_device(n, k))
    try:
        found = []
        for kernels in (TRITON, PLAIN):
            temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
            reading, parameters = compared.read(
                kernels, [40, 1, 9], labels=[1, 0, 1], temperature=temperature, targets=targets
            )
            out = torch.cat([reading.slides.flatten(), reading.pulls])
            found.append((out, compared.gradients(out, [temperature, *parameters])))
    finally:
        torch.set_default_device("cpu")
    compared.assert_near(*found, outputs=1e-12, relative=1e-10)


def random_on_device(n_tiles, k):
    with torch.device("cpu"):
        neighbours = random_neighbours(n_tiles, k)
    return neighbours.to(DEVICE)


@runs
@pytest.mark.parametrize("kernels", [TRITON, FAST])
def test_without_learning_arrays_are_used_again(kernels):
    graph = on_device(60, "own")
    x = torch.randn(60, 10, device=DEVICE)
    encoder = compared.make_encoder(kernels, dtype=torch.float32).to(DEVICE)
    out = encoder(x, graph, seed=SEED)
    with torch.no_grad():
        again = encoder(x, graph, seed=SEED)
    # a card multiplies bfloat16 in another order where the arrays lie otherwise
    rounded = kernels is FAST and DEVICE == "cuda"
    torch.testing.assert_close(again, out.detach(), atol=0.1 if rounded else 1e-6, rtol=0)
    assert float((again - out.detach()).abs().mean()) < 0.01


@runs
def test_low_products_are_near():
    graph = on_device(60, "own")
    x = torch.randn(60, 64, device=DEVICE)
    found = both_ways(graph, x, (FAST, TRITON), dim_in=64, dim=32, dtype=torch.float32)
    torch.testing.assert_close(found[0][0], found[1][0], atol=0.1, rtol=0)
    assert not torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.98


@runs
def test_a_step_repeats_to_the_bit():
    graph = on_device(40, "own")
    x = torch.randn(40, 10, device=DEVICE)
    one, two = both_ways(graph, x, (TRITON, TRITON), dtype=torch.float32)
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


@runs
def test_many_blocks_a_program(monkeypatch):
    from momkd.nn.graph_attention import triton_layer

    monkeypatch.setattr(triton_layer, "MOST_PROGRAMS", 1)
    graph = on_device(130, "own")
    x = torch.randn(130, 10, dtype=torch.float64, device=DEVICE)
    compared.assert_near(*both_ways(graph, x), outputs=1e-12, relative=1e-11)


@runs
@pytest.mark.parametrize("seed", [7, 2**63 + 12345])
@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_masks_of_the_programs_are_those_of_the_tensors(rate, seed):
    """A layer that hears only itself shows its mask; an encoder's rows show the others' above."""
    drop = drop_at(seed, 0, rate)
    lists = torch.arange(200, device=DEVICE)[:, None]
    from momkd.nn.graph_attention.fused_layer import hear_fused

    graph = TileGraph.of(lists)
    ones = torch.ones(200, 12, dtype=torch.float64, device=DEVICE)
    attention, bias = ones.new_zeros(3, 2), ones.new_zeros(6)
    heard = hear_fused("triton", ones, attention, bias, graph, drop)
    like = torch.zeros((), dtype=torch.float64)
    mask = edge_mask(drop, torch.arange(200)[:, None], 3, like)
    assert torch.equal(heard.cpu().view(200, 3, 2)[:, :, 0], mask[:, 0])


@runs
@pytest.mark.parametrize("dim_head", [1, 7, 32])
def test_masks_of_rows_are_those_of_the_tensors(dim_head):
    from momkd.nn.graph_attention.fused_layer import LayerSetting, Slot, fused_layer

    n_tiles, shape = 50, (3, dim_head)
    drop = drop_at(2**40 + 5, 1, 0.3)
    # a norm that gives 1 everywhere, so that what comes out is the mask
    like = torch.zeros(shape, dtype=torch.float64, device=DEVICE)
    setting = LayerSetting(
        graph=TileGraph.of(torch.arange(n_tiles, device=DEVICE)[:, None]),
        attention=like,
        bias=like,
        norm=(like.flatten(), torch.ones_like(like).flatten(), 1e-5),
        drop=NO_DROP,
        drop_output=drop,
    )
    projected = like.new_zeros(n_tiles, 9, dim_head)
    out = torch.empty_like(projected)
    fused_layer("triton", setting).forward(projected, projected, Slot(out, 3))
    wanted = row_mask(drop, n_tiles, 3 * dim_head, like)
    assert torch.equal(out[:, 3:6].flatten(1).cpu(), wanted.cpu())


@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
def test_the_choice_on_a_card():
    choice = choose_kernels(device="cuda")
    assert choice.backend == "triton", choice.note
    assert choice.version


@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
def test_the_host_waits_for_nothing():
    encoder = compared.make_encoder(TRITON, dtype=torch.float32).to(DEVICE)
    x, neighbours = torch.randn(500, 10, device=DEVICE), random_on_device(500, 8)
    encoder(x, TileGraph(neighbours, "own"), seed=SEED).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for direction in ("own", "listed_by"):
            encoder(x, TileGraph(neighbours, direction), seed=SEED).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Compiling:
    """Stands for a program: compiles it for a card, for what it is called with; runs nothing."""

    def __init__(self, function, capability):
        self.function, self.capability, self.codes = function, capability, []

    def __getitem__(self, grid):
        return self.compile

    def compile(self, *args, **options):
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        given = dict(zip(self.function.arg_names, args, strict=False)) | options
        constants = {k: v for k, v in given.items() if k.isupper()}
        signature = {k: self.kind(k, v) for k, v in given.items()}
        assert set(signature) == set(self.function.arg_names)
        signature = {k: signature[k] for k in self.function.arg_names}
        source = ASTSource(fn=self.function, signature=signature, constexprs=constants)
        target = GPUTarget("cuda", self.capability, 32)
        self.codes.append(triton.compile(source, target=target).asm)

    @staticmethod
    def kind(name, value):
        if name.isupper():
            return "constexpr"
        if isinstance(value, torch.Tensor):
            kinds = {
                torch.float32: "fp32",
                torch.float64: "fp64",
                torch.bfloat16: "bf16",
                torch.int32: "i32",
            }
            return "*" + kinds[value.dtype]
        return "i32" if -(2**31) <= value < 2**31 else "i64"


@pytest.mark.slow
@pytest.mark.skipif(triton_interprets(), reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kernels", [TRITON, FAST])
def test_programs_compile_for_cards(kernels, capability, monkeypatch, tmp_path):
    from momkd.nn.graph_attention import triton_layer

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    standing = []
    for module, names in (
        (triton_layer.programs, ["hear"]),
        (triton_layer.back_programs, ["target_rows", "source_rows", "add_up"]),
    ):
        for name in names:
            standing.append(Compiling(getattr(module, name), capability))
            monkeypatch.setattr(module, name, standing[-1])
    monkeypatch.setattr("momkd.nn.towers.compiled_backend", lambda *_: "triton")
    encoder = compared.make_encoder(kernels, dim=256, dtype=torch.float32)
    graph = TileGraph(random_neighbours(30, 8), "own")
    encoder(torch.zeros(30, 10), graph, seed=SEED).sum().backward()
    assert [len(program.codes) for program in standing] == [2, 2, 2, 4]
    for program in standing:
        for code in program.codes:
            assert f".target sm_{capability}" in code["ptx"]
            assert len(code["cubin"]) > 1000
            assert "atom." not in code["ptx"]
            assert "red." not in code["ptx"].replace("shared.", "")
