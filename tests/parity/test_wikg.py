import numpy as np
import pytest
import torch
from torch import nn

from momkd.models.table import build_model
from momkd.nn.nearest_scores import top_scores
from momkd.types import Bag, Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("wikg")

NAMES = {
    "_fc1.0": "encoder.0",
    "W_head": "head_map",
    "W_tail": "tail_map",
    "linear1": "aggregate_sum",
    "linear2": "aggregate_product",
    "norm": "norm",
    "fc": "head",
    "readout.gate_nn.0": "readout.0",
    "readout.gate_nn.2": "readout.2",
}
DEAD = GOLDEN["fact.gate_U+gate_V+gate_W_params(never used in forward)"]
READOUT = {"attn": "attention", "mean": "mean", "max": "max"}


def build(dim_in: int, readout: str, **options):
    options = {"readout": READOUT[readout], **options}
    return build_model("wikg", Dims(dim_in=dim_in), options=options).double().eval()


def sine_filled(dim_in: int, readout: str):
    model = build(dim_in, readout)
    state = {}
    for place, name, shape in GOLDEN["param_order"]:
        part, _, kind = name.rpartition(".")
        if part not in NAMES or (part.startswith("readout") and readout != "attn"):
            continue  # the dead gates count in the order, and are not built here
        if place == 0:
            shape = [shape[0], dim_in]
        state[f"{NAMES[part]}.{kind}"] = fill(place, name, shape)
    model.load_state_dict(state)
    return model


CASES = [(384, r) for r in ("attn", "mean", "max")] + [(1536, r) for r in ("attn", "mean", "max")]


@pytest.mark.parametrize(("dim_in", "readout"), CASES)
def test_published_numbers(dim_in, readout):
    model = sine_filled(dim_in, readout)
    key = f"D={dim_in}.pool={readout}"
    n_weights = sum(p.numel() for p in model.parameters())
    assert n_weights + DEAD == GOLDEN[f"{key}.params"]
    x = sine_input(20, dim_in)
    wanted = GOLDEN[f"{key}.sinfill.N=20.logits"]
    logits = model(Bag(slide_id="sine", embeddings=x)).logits.detach()
    np.testing.assert_allclose(logits, wanted, atol=1e-8, rtol=0)
    single = model.float()(Bag(slide_id="sine", embeddings=x.float())).logits.detach()
    np.testing.assert_allclose(single, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dim_in", "readout"), CASES)
def test_published_default_start(dim_in, readout):
    torch.manual_seed(0)
    layers = {
        "encoder.0": nn.Linear(dim_in, 512),
        "head_map": nn.Linear(512, 512),
        "tail_map": nn.Linear(512, 512),
    }
    dead = [nn.Linear(512, 256), nn.Linear(512, 256), nn.Linear(256, 512)]
    assert sum(p.numel() for layer in dead for p in layer.parameters()) == DEAD
    layers |= {"aggregate_sum": nn.Linear(512, 512), "aggregate_product": nn.Linear(512, 512)}
    layers |= {"norm": nn.LayerNorm(512), "head": nn.Linear(512, 2)}
    if readout == "attn":
        layers |= {"readout.0": nn.Linear(512, 256), "readout.2": nn.Linear(256, 1)}
    state = {
        f"{k}.{n}": p.detach() for k, layer in layers.items() for n, p in layer.named_parameters()
    }
    model = build(dim_in, readout).float()
    model.load_state_dict(state)
    x = torch.randn(20, dim_in, generator=torch.Generator().manual_seed(1))
    logits = model(Bag(slide_id="normal", embeddings=x)).logits.detach()
    wanted = GOLDEN[f"D={dim_in}.pool={readout}.seed0.randn(seed1)(20,{dim_in}).logits"]
    np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("aggregation", ["gcn", "sage"])
def test_other_aggregations_have_the_published_sizes(aggregation):
    model = build(1536, "attn", aggregation=aggregation)
    n_weights = sum(p.numel() for p in model.parameters())
    assert n_weights + DEAD == GOLDEN[f"D=1536.agg={aggregation}.pool=attn.params"]
    logits = model(Bag(slide_id="s", embeddings=sine_input(7, 1536))).logits
    assert bool(logits.isfinite().all())


def test_score_is_a_product_of_sums_and_not_a_dot_product():
    code, x = sine_filled(384, "attn"), sine_input(20, 384)
    paper = build(384, "attn", score="product")
    paper.load_state_dict(code.state_dict())
    bag = Bag(slide_id="sine", embeddings=x)
    assert float((code(bag).logits - paper(bag).logits).detach().abs().max()) > 1e-3
    assert GOLDEN["fact.einsum_equals_product_of_sums_maxdiff"] == 0
    assert GOLDEN["fact.einsum_vs_dot_product_maxdiff"] > 1


def test_order_of_tiles_and_fewer_tiles_than_neighbours():
    model, x = sine_filled(384, "attn"), sine_input(20, 384)
    logits = model(Bag(slide_id="s", embeddings=x)).logits
    flipped = model(Bag(slide_id="s", embeddings=x.flip(0))).logits
    torch.testing.assert_close(flipped, logits)
    assert GOLDEN["fact.permutation_invariant_maxdiff"] < 1e-6
    assert "out of range" in GOLDEN["fact.N=5<topk=6"]  # theirs fails, ours takes all five
    assert bool(model(Bag(slide_id="s", embeddings=x[:5])).logits.isfinite().all())


def test_blocks_change_no_choice(monkeypatch):
    heads, tails, sizes = sine_input(30, 8), sine_input(60, 8)[30:], [3, 20, 7]
    whole = top_scores(heads, tails, sizes, 6)
    monkeypatch.setattr("momkd.nn.nearest_scores._BLOCK_BYTES", 8 * 20 * 4)  # four rows of 20
    assert torch.equal(top_scores(heads, tails, sizes, 6), whole)
    for start, size in ((0, 3), (3, 20), (23, 7)):
        scores = heads[start : start + size] @ tails[start : start + size].T
        wanted = scores.argsort(dim=1, descending=True)[:, :6] + start
        assert torch.equal(whole[start : start + size, : min(6, size)], wanted)
    assert bool((whole[:3, 3:] == -1).all())
