import numpy as np
import pytest
import torch
from torch import nn

from momkd.models.table import build_model
from momkd.nn.pooling import GatedAttention, segment_softmax, segment_sum
from momkd.types import Bag, Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("abmil")

NAMES = {
    True: {
        "attention_net.0": "encoder.0",
        "attention_net.3.attention_a.0": "attention.content",
        "attention_net.3.attention_b.0": "attention.gate",
        "attention_net.3.attention_c": "attention.score",
        "classifiers": "head",
    },
    False: {
        "attention_net.0": "encoder.0",
        "attention_net.3.module.0": "attention.content",
        "attention_net.3.module.3": "attention.score",
        "classifiers": "head",
    },
}


def sine_filled(gated: bool, dim_in: int):
    model = build_model("abmil", Dims(dim_in=dim_in), options={"gated": gated}).double().eval()
    state = {}
    for place, name, shape in GOLDEN[f"clam_sb.gate={gated}.param_order"]:
        part, _, kind = name.rpartition(".")
        if part in NAMES[gated]:
            if place == 0:
                shape = [shape[0], dim_in]
            state[f"{NAMES[gated][part]}.{kind}"] = fill(place, name, shape)
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("dim_in", [1024, 1536])
@pytest.mark.parametrize("gated", [True, False])
def test_published_numbers(gated, dim_in):
    key = f"clam_sb.gate={gated}.embed={dim_in}"
    model = sine_filled(gated, dim_in)
    n_weights = sum(p.numel() for p in model.parameters())
    assert n_weights == GOLDEN[f"{key}.params_without_instance_classifiers(=ABMIL)"]
    x = sine_input(12, dim_in)
    scores = model.attention(model.encoder(x)).detach().numpy()
    np.testing.assert_allclose(scores, GOLDEN[f"{key}.sinfill.A_raw"], atol=1e-8, rtol=0)
    output = model(Bag(slide_id="sine", embeddings=x))
    wanted = GOLDEN[f"{key}.sinfill.softmax(A)"]
    np.testing.assert_allclose(output.attention.detach(), wanted, atol=1e-8, rtol=0)
    wanted = GOLDEN[f"{key}.sinfill.logits"]
    np.testing.assert_allclose(output.logits.detach(), wanted, atol=1e-8, rtol=0)
    single = model.float()(Bag(slide_id="sine", embeddings=x.float()))
    np.testing.assert_allclose(single.logits.detach(), wanted, atol=1e-4, rtol=0)


# parameter order of the original's MNIST models; the extractor's tensors come first
EXTRACTOR = 6


@pytest.mark.parametrize("gated", [True, False])
def test_original_head(gated):
    name = "GatedAttention" if gated else "Attention"
    attention = GatedAttention(500, 128, gated=gated)
    n_weights = sum(p.numel() for p in attention.parameters())
    assert n_weights == GOLDEN[f"amlab.{name}.attention_params(M=500,L=128)"]
    classify = nn.Linear(500, 1)
    layers = [attention.content, attention.gate, attention.score, classify]
    place = EXTRACTOR
    with torch.no_grad():
        for layer in [part for part in layers if part is not None]:
            for kind in ("weight", "bias"):
                tensor = getattr(layer, kind)
                tensor.data = fill(place, kind, list(tensor.shape))
                place += 1
    tiles, segments = sine_input(7, 500), torch.zeros(7, dtype=torch.int64)
    a = segment_softmax(attention(tiles), segments, 1)
    wanted = GOLDEN[f"amlab.{name}.sinfill.head_only(H=sin_input(7,500)).A"]
    np.testing.assert_allclose(a.detach(), wanted, atol=1e-8, rtol=0)
    z = segment_sum(a[:, None] * tiles, segments, 1)
    y = torch.sigmoid(classify(z)).detach().flatten()
    wanted = GOLDEN[f"amlab.{name}.sinfill.head_only.Y_prob"]
    np.testing.assert_allclose(y, wanted, atol=1e-8, rtol=0)
