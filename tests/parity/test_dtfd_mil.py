import numpy as np
import pytest
import torch

from momkd.models.dtfd_mil import deal
from momkd.models.table import build_model
from momkd.types import Bag, Dims, Sample
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("dtfd")


def attention(official: str, ours: str) -> dict[str, str]:
    return {
        f"{official}.attention_V.0": f"{ours}.content",
        f"{official}.attention_U.0": f"{ours}.gate",
        f"{official}.attention_weights": f"{ours}.score",
    }


NAMES = {
    "classifier.fc": "bag_head",
    "dimReduction.fc1": "encoder.0",
    "UClassifier.classifier.fc": "slide_head",
    **attention("attention", "bag_attention"),
    **attention("UClassifier.attention", "slide_attention"),
}
PARTS = {
    "classifier": ("bag_head",),
    "attention": ("bag_attention",),
    "dimReduction": ("encoder",),
    "UClassifier": ("slide_attention", "slide_head"),
}


def sine_filled(**options):
    model = build_model("dtfd_mil", Dims(dim_in=1536), options=options).double().eval()
    state = {}
    for place, name, shape in GOLDEN["param_order"]:
        part, _, kind = name.rpartition(".")
        state[f"{NAMES[part]}.{kind}"] = fill(place, name, shape)
    model.load_state_dict(state)
    return model


def read_in_a_row(model, n_tiles):
    """Both tiers with consecutive pseudo-bags, as the published numbers were made."""
    bag = Bag(slide_id="sine", embeddings=sine_input(n_tiles, 1536))
    return model.read(model.encode([bag]), deal(n_tiles, model.options.n_bags))


def positive(logits):
    return torch.softmax(logits, dim=1)[:, 1].detach()


@pytest.mark.parametrize("dim_in", [1024, 1536])
def test_sizes(dim_in):
    model = build_model("dtfd_mil", Dims(dim_in=dim_in))
    wanted = GOLDEN[f"D={dim_in}.params"]
    for official, ours in PARTS.items():
        n_weights = sum(p.numel() for part in ours for p in getattr(model, part).parameters())
        assert n_weights == wanted[official]
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[f"D={dim_in}.params_total"]
    assert model.encoder[0].bias is GOLDEN["DimReduction.fc1.bias"]


@pytest.mark.parametrize("n_instances", [4, 8])
@pytest.mark.parametrize("distil", ["AFS", "MaxS", "MaxMinS"])
def test_published_numbers(distil, n_instances):
    model = sine_filled(distil=distil, n_instances=n_instances)
    key = f"sinfill.N=22.G=4.{distil}.total_instance={n_instances}"
    reading = read_in_a_row(model, 22)
    wanted = GOLDEN[f"{key}.tier1_p(pos)_per_pseudo_bag"]
    np.testing.assert_allclose(positive(reading.bag_logits), wanted, atol=1e-7, rtol=0)
    wanted = GOLDEN[f"{key}.tier2_p(pos)"]
    np.testing.assert_allclose(positive(reading.logits), wanted, atol=1e-7, rtol=0)
    single = read_in_a_row_single(model)
    np.testing.assert_allclose(positive(single.logits), wanted, atol=1e-4, rtol=0)


def read_in_a_row_single(model):
    model.float()
    bag = Bag(slide_id="sine", embeddings=sine_input(22, 1536).float())
    return model.read(model.encode([bag]), deal(22, 4))


def test_losses(monkeypatch):
    model = sine_filled()
    monkeypatch.setattr(model, "_split", lambda sizes, seed: deal(sizes[0], 4))
    bag = Bag(slide_id="sine", embeddings=sine_input(22, 1536))
    terms = model.losses([Sample(case_id="c", label=1, bag=bag)]).terms
    first, second = GOLDEN["sinfill.AFS.loss0(y=1)"][0], GOLDEN["sinfill.AFS.loss1(y=1)"][0]
    assert float(terms["tier_1"].detach()) == pytest.approx(first, abs=1e-7)
    assert float(terms["tier_2"].detach()) == pytest.approx(second, abs=1e-7)


@pytest.mark.parametrize("distil", ["AFS", "MaxS", "MaxMinS", "MAS"])
def test_no_gradient_of_the_second_tier_reaches_the_first(distil):
    model = sine_filled(distil=distil).train()
    bag = Bag(slide_id="sine", embeddings=sine_input(22, 1536))
    terms = model.losses([Sample(case_id="c", label=1, bag=bag)]).terms
    terms["tier_2"].backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("slide_"), name
    terms["tier_1"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert GOLDEN["fact.detach_vs_original_semantics_max_param_diff_after_12_steps"] == 0
    assert "inplace" in GOLDEN["fact.official_train_loop_on_this_torch"]


def test_pseudo_bags_are_dealt_as_published():
    assert torch.bincount(deal(22, 4)).tolist() == GOLDEN["fact.array_split(22,4)_sizes"]
    wanted = [len(part) for part in np.array_split(np.arange(7), 4)]
    assert torch.bincount(deal(7, 4)).tolist() == wanted


@pytest.mark.parametrize("n_tiles", [1, 3])
def test_fewer_tiles_than_pseudo_bags(n_tiles):
    wanted = GOLDEN[f"fact.N={n_tiles}<numGroup=4 (AFS eval)"]
    reading = read_in_a_row(sine_filled(), n_tiles)
    np.testing.assert_allclose(positive(reading.logits), wanted, atol=1e-7, rtol=0)
    without = read_in_a_row(sine_filled(keep_empty=False), n_tiles)
    assert float((positive(without.logits) - positive(reading.logits)).abs()) > 1e-6
    for distil in ("MaxS", "MaxMinS", "MAS"):
        assert bool(read_in_a_row(sine_filled(distil=distil), n_tiles).logits.isfinite().all())


def test_scores_average_probabilities_over_fixed_splits():
    model = sine_filled(n_splits=3)
    bag = Bag(slide_id="sine", embeddings=sine_input(22, 1536))
    tiles = model.encode([bag])
    p = torch.stack(
        [positive(model.read(tiles, model._split([22], seed)).logits) for seed in range(3)]
    )
    found = torch.softmax(model(bag).logits.detach(), dim=0)[1]
    assert float(found) == pytest.approx(float(p.mean()), abs=1e-6)
    assert float(p.std()) > 0
