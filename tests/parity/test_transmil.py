import numpy as np
import pytest
import torch
from torch import nn

from momkd.models.table import build_model
from momkd.nn.nystrom import NystromAttention, pseudo_inverse
from momkd.types import Bag, Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("transmil")

NAMES = {
    "pos_layer.proj": "positions.convolutions.0",
    "pos_layer.proj1": "positions.convolutions.1",
    "pos_layer.proj2": "positions.convolutions.2",
    "_fc1.0": "encoder.0",
    "norm": "norm",
    "_fc2": "head",
}
for i in (1, 2):
    NAMES |= {
        f"layer{i}.norm": f"block_{i}.norm",
        f"layer{i}.attn.to_qkv": f"block_{i}.attention.to_qkv",
        f"layer{i}.attn.to_out.0": f"block_{i}.attention.output.0",
        f"layer{i}.attn.res_conv": f"block_{i}.attention.convolution",
    }
ROWS = {"0.0.9": "first", "0.0.14": "last"}


def build(dim_in: int, version: str = "0.0.14"):
    options = {"rows": ROWS[version]}
    return build_model("transmil", Dims(dim_in=dim_in), options=options).eval()


def our_name(official: str) -> str:
    if official == "cls_token":
        return "class_token"
    part, _, kind = official.rpartition(".")
    return f"{NAMES[part]}.{kind}"


def sine_filled(dim_in: int, version: str):
    model = build(dim_in, version)
    state = {}
    for place, name, shape in GOLDEN["D=1536.param_order"]:
        if name == "_fc1.0.weight":
            shape = [shape[0], dim_in]
        state[our_name(name)] = fill(place, name, shape).float()
    model.load_state_dict(state)
    return model


def logits(model, x):
    with torch.no_grad():
        return model(Bag(slide_id="s", embeddings=x)).logits


@pytest.mark.parametrize("version", ["0.0.9", "0.0.14"])
@pytest.mark.parametrize("dim_in", [1024, 1536])
def test_published_numbers(dim_in, version):
    model = sine_filled(dim_in, version)
    key = f"nystrom{version}.D={dim_in}"
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[f"{key}.params"]
    for n in (10, 16, 600):
        found = logits(model, sine_input(n, dim_in).float())
        wanted = GOLDEN[f"{key}.N={n}.sinfill.logits(float32)"]
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("version", ["0.0.9", "0.0.14"])
def test_published_default_start(version):
    """The official order of construction, layer by layer, from torch's seed 0."""
    torch.manual_seed(0)
    state = {}

    def keep(name, layer):
        state.update({f"{NAMES[name]}.{k}": p.detach() for k, p in layer.named_parameters()})

    for name, size in (("", 7), ("1", 5), ("2", 3)):
        keep(f"pos_layer.proj{name}", nn.Conv2d(512, 512, size, padding=size // 2, groups=512))
    keep("_fc1.0", nn.Linear(1024, 512))
    state["class_token"] = torch.randn(1, 1, 512)
    for i in (1, 2):
        keep(f"layer{i}.norm", nn.LayerNorm(512))
        keep(f"layer{i}.attn.to_qkv", nn.Linear(512, 1536, bias=False))
        keep(f"layer{i}.attn.to_out.0", nn.Linear(512, 512))
        keep(f"layer{i}.attn.res_conv", nn.Conv2d(8, 8, (33, 1), groups=8, bias=False))
    keep("norm", nn.LayerNorm(512))
    keep("_fc2", nn.Linear(512, 2))
    model = build(1024, version)
    model.load_state_dict(state)
    for n in (10, 600):
        x = torch.randn(n, 1024, generator=torch.Generator().manual_seed(1))
        wanted = GOLDEN[f"nystrom{version}.D=1024.N={n}.seed0.logits"]
        np.testing.assert_allclose(logits(model, x), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dim_in", [1024, 1536])
def test_versions_of_the_package_differ_by_the_published_amounts(dim_in):
    models = [sine_filled(dim_in, version) for version in ROWS]
    for n in (10, 16, 600):
        old, new = (logits(model, sine_input(n, dim_in).float()) for model in models)
        wanted = GOLDEN[f"fact.version_diff(0.0.9 vs 0.0.14).D={dim_in}.N={n}"]
        assert float((old - new).abs().max()) == pytest.approx(wanted, abs=2e-4)


def test_parts_have_the_published_sizes():
    model = build(1024)
    sizes = GOLDEN["fact.params_by_part"]
    parts = {"pos_layer": "positions", "_fc1": "encoder", "layer1": "block_1", "layer2": "block_2"}
    for official, ours in (parts | {"norm": "norm", "_fc2": "head"}).items():
        n_weights = sum(p.numel() for p in getattr(model, ours).parameters())
        assert n_weights == sizes[official]
    assert model.class_token.numel() == GOLDEN["fact.cls_token_params"]
    attention = model.block_1.attention
    assert attention.n_landmarks == GOLDEN["fact.num_landmarks"]
    assert attention.n_heads == GOLDEN["fact.heads"]
    assert attention.scale == GOLDEN["fact.scale"]
    assert attention.n_iterations == GOLDEN["fact.pinv_iterations"]
    assert list(attention.convolution.weight.shape) == GOLDEN["fact.res_conv_weight_shape"]
    assert (attention.to_qkv.bias is not None) == GOLDEN["fact.to_qkv_bias"]


def test_filling_repeats_the_first_tiles_and_order_matters():
    model, x = sine_filled(1536, "0.0.14"), sine_input(10, 1536).float()
    by_hand = logits(model, torch.cat([x, x[:6]]))
    close = GOLDEN["fact.pad_to_next_square_by_repeating_first_tokens_maxdiff(N=10 vs 16)"]
    assert float((logits(model, x) - by_hand).abs().max()) < 10 * close
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert float((logits(model, x) - logits(model, x[order])).abs().max()) > 1e-3
    assert GOLDEN["fact.NOT_permutation_invariant_maxdiff(N=10)"] > 1e-3


def plain_attention(attention, tokens):
    """The published layer without the folding: every landmark of the filling is computed."""
    m, n_tokens = attention.n_landmarks, tokens.shape[1]
    n_filled = -n_tokens % m
    x = torch.nn.functional.pad(tokens, (0, 0, n_filled, 0))
    q, k, v = (attention._split(part) for part in attention.to_qkv(x).chunk(3, dim=2))
    q = q * attention.scale
    q_marks, k_marks = (t.unflatten(2, (m, -1)).mean(dim=3) for t in (q, k))
    a = (torch.softmax(i @ j.mT, -1) for i, j in ((q, k_marks), (q_marks, k_marks), (q_marks, k)))
    to_marks, among, from_marks = a
    inverse = pseudo_inverse(among, 0, attention.n_iterations)
    mixed = to_marks @ inverse @ from_marks @ v + attention.convolution(v)
    return attention.output(mixed.transpose(1, 2).flatten(2))[:, n_filled:], x


@pytest.mark.parametrize("n_tokens", [2, 5, 17, 32, 33, 50, 96, 97, 131])
def test_folding_the_filling_changes_no_number(n_tokens):
    torch.manual_seed(0)
    attention = NystromAttention(16, 2, 8, n_landmarks=32, dropout=0.0).double()
    tokens = torch.randn(3, n_tokens, 16).double().requires_grad_()
    folded, _ = attention(tokens)
    plain, _ = plain_attention(attention, tokens)
    torch.testing.assert_close(folded, plain, atol=1e-10, rtol=1e-9)
    weight = attention.to_qkv.weight
    wanted = torch.autograd.grad(plain.square().sum(), (tokens, weight), retain_graph=True)
    found = torch.autograd.grad(folded.square().sum(), (tokens, weight))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_tokens_inside_the_attention():
    _, filled = plain_attention(build(1536).block_1.attention, torch.ones(1, 17, 512))
    assert list(filled.shape) == GOLDEN["fact.tokens_inside_attention_for_N=10"]
    assert GOLDEN["fact.padding_is_in_front_and_zero"] == (not bool(filled[0, :239].any()))
    assert filled.shape[1] == GOLDEN["fact.N=16 -> 17 tokens -> padded_to"]


def test_pseudo_inverse_comes_near_the_true_one():
    torch.manual_seed(0)
    x = torch.softmax(torch.randn(2, 3, 6, 6).double() * 3, dim=-1)
    torch.testing.assert_close(pseudo_inverse(x, 0, 40), torch.linalg.pinv(x), atol=1e-8, rtol=1e-6)
    alone = torch.stack([pseudo_inverse(item[None], 0, 6)[0] for item in x])
    torch.testing.assert_close(pseudo_inverse(x, 0, 6), alone)
