import numpy as np
import pytest
import torch
from torch import nn

from momkd.models.table import build_model
from momkd.types import Bag, Dims, Sample
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("dsmil")

NAMES = {
    "i_classifier.fc.0": "instance_head",
    "b_classifier.q.0": "query.0",
    "b_classifier.q.2": "query.2",
    "b_classifier.fcc": "bag_head",
}


def build(dim_in: int, n_labels: int, **options):
    dims = Dims(dim_in=dim_in)
    return build_model("dsmil", dims, options={"n_labels": n_labels, **options}).double().eval()


def sine_filled(dim_in: int, n_labels: int):
    model = build(dim_in, n_labels)
    own = model.state_dict()
    state = {}
    # the order of tensors does not depend on their number of labels
    for place, name, shape in GOLDEN[f"D={dim_in}.C=2.param_order"]:
        part, _, kind = name.rpartition(".")
        official = [n_labels if n == 2 else n for n in shape]
        mine = f"{NAMES[part]}.{kind}"
        state[mine] = fill(place, name, official).view_as(own[mine])
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("n_labels", [1, 2])
@pytest.mark.parametrize("dim_in", [512, 1536])
def test_published_numbers(dim_in, n_labels):
    key = f"D={dim_in}.C={n_labels}"
    model = sine_filled(dim_in, n_labels)
    n_weights = sum(p.numel() for p in model.parameters())
    assert n_weights == GOLDEN[f"{key}.nonlinear.params"]
    x = sine_input(12, dim_in)
    bag = Bag(slide_id="sine", embeddings=x)
    with torch.no_grad():
        reading = model.read([bag])[0]
    # the published numbers are float64 but for the square root of 128, which was float32
    close = {"atol": 1e-7, "rtol": 0}
    assert reading.instances.argmax(dim=0).tolist() == GOLDEN[f"{key}.sinfill.argmax_instance"]
    wanted = GOLDEN[f"{key}.sinfill.max_instance_logit"]
    np.testing.assert_allclose(reading.critical, wanted, **close)
    wanted = GOLDEN[f"{key}.sinfill.A(N x C, row-major)"]
    np.testing.assert_allclose(reading.attention.flatten(), wanted, **close)
    np.testing.assert_allclose(reading.bag, GOLDEN[f"{key}.sinfill.bag_logits"], **close)
    losses = model.losses([Sample(case_id="c", label=1, bag=bag)])
    wanted = GOLDEN[f"{key}.sinfill.loss(y=positive)"][0]
    assert float(losses.total.detach()) == pytest.approx(wanted, abs=1e-7)
    output = model(bag)
    p = torch.softmax(output.logits, dim=0)[1]
    torch.testing.assert_close(p, torch.sigmoid(reading.bag[-1]))
    single = model.float()(Bag(slide_id="sine", embeddings=x.float()))
    wanted = GOLDEN[f"{key}.sinfill.bag_logits"][-1]
    assert float(single.logits[1].detach()) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("n_labels", [1, 2])
@pytest.mark.parametrize("dim_in", [512, 1536])
def test_published_default_start(dim_in, n_labels):
    torch.manual_seed(0)
    instance, first, second = (
        nn.Linear(dim_in, n_labels),
        nn.Linear(dim_in, 128),
        nn.Linear(128, 128),
    )
    convolution = nn.Conv1d(n_labels, n_labels, dim_in)
    model = build(dim_in, n_labels).float()
    state = {}
    layers = {"instance_head": instance, "query.0": first, "query.2": second}
    for name, layer in (layers | {"bag_head": convolution}).items():
        state[f"{name}.weight"] = layer.weight.detach().flatten(1)
        state[f"{name}.bias"] = layer.bias.detach()
    model.load_state_dict(state)
    x = torch.randn(12, dim_in, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reading = model.read([Bag(slide_id="normal", embeddings=x)])[0]
    key = f"D={dim_in}.C={n_labels}.seed0.default_init"
    wanted = GOLDEN[f"{key}.max_instance_logit"]
    np.testing.assert_allclose(reading.critical, wanted, atol=1e-4, rtol=0)
    np.testing.assert_allclose(reading.bag, GOLDEN[f"{key}.bag_logits"], atol=1e-4, rtol=0)
    shape = GOLDEN["fact.conv1d_weight_shape(C_out,C_in,K)"]
    if [n_labels, dim_in] == [2, 1536]:
        assert list(convolution.weight.shape) == shape


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ({"nonlinear": False}, {"nonlinear": False}),
        ({"passing_v": True}, {"project_values": True}),
        ({"nonlinear": False, "passing_v": True}, {"nonlinear": False, "project_values": True}),
    ],
)
def test_variants_have_the_published_sizes(official, ours):
    model = build(1536, 2, **ours)
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[f"D=1536.C=2.{official}.params"]
    assert torch.isfinite(model(Bag(slide_id="s", embeddings=sine_input(3, 1536))).logits).all()


def test_attention_sums_to_one_and_order_does_not_matter():
    model, x = sine_filled(512, 2), sine_input(12, 512)
    with torch.no_grad():
        reading = model.read([Bag(slide_id="s", embeddings=x)])[0]
        flipped = model.read([Bag(slide_id="s", embeddings=x.flip(0))])[0]
    torch.testing.assert_close(reading.attention.sum(dim=0), torch.ones(2).double())
    torch.testing.assert_close(flipped.bag, reading.bag)
    assert max(abs(s - 1) for s in GOLDEN["fact.A_columns_sum_to_one"]) < 1e-6
    assert GOLDEN["fact.bag_logit_permutation_invariance_maxdiff"] < 1e-6


def test_both_streams_averaged():
    """The paper's final score."""
    model, bag = sine_filled(512, 2), Bag(slide_id="s", embeddings=sine_input(12, 512))
    mean = build(512, 2, score="mean")
    mean.load_state_dict(model.state_dict())
    with torch.no_grad():
        reading = model.read([bag])[0]
        p = torch.softmax(mean(bag).logits, dim=0)[1]
    wanted = (torch.sigmoid(reading.bag[1]) + torch.sigmoid(reading.critical[1])) / 2
    assert float(p) == pytest.approx(float(wanted), abs=1e-6)
