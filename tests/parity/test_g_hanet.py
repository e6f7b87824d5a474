import numpy as np
import pytest
import torch

from momkd.models.g_hanet import sample_distance
from momkd.models.table import build_model
from momkd.types import Bag, Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("ghanet")
BRCA = (91, 353, 553, 480, 1565, 480)
EQUAL = (128,) * 6
SMALL = (10, 20, 30, 40, 50, 60)
DEAD = GOLDEN["fact.number_of_dead_params"]


def attention(official: str, ours: str) -> dict[str, str]:
    return {
        f"{official}.to_q.0": f"{ours}.query",
        f"{official}.to_k.0": f"{ours}.key",
        f"{official}.to_v": f"{ours}.value",
        f"{official}.to_out": f"{ours}.output",
    }


def feed(official: str, ours: str) -> dict[str, str]:
    return {f"{official}.net.0": f"{ours}.inner", f"{official}.net.2": f"{ours}.outer"}


NAMES = {
    "gate.attention_a.0": "morphology.content",
    "gate.attention_b.0": "morphology.gate",
    "gate.attention_c": "morphology.score",
    "wsi_net.0": "encoder.0",
    "wsi_net.1": "encoder.1",
    "recon_net.wsi_net.0": "genomic.encoder.0",
    "hyperconv1.linear1": "hyper.steps.0",
    "hyperconv1.ln1": "hyper.steps.1",
    "hyperconv1.linear2": "hyper.steps.3",
    "hyperconv1.ln2": "hyper.steps.4",
    "ln1": "norm",
    "butter.0": "squeeze.0",
    "butter.1": "squeeze.1",
    "classifier": "head",
    **attention("recon_net.cross_attention0", "genomic.attention"),
    **attention("attention", "attention"),
    **feed("recon_net.ffn0", "genomic.feed_1"),
    **feed("recon_net.ffn1", "genomic.feed_2"),
    **feed("ffn", "feed"),
    **{f"recon_net.ln_{i + 1}": f"genomic.norms.{i}" for i in range(6)},
    **{
        f"recon_net.sig_reconstruct_net.{i}.{j}": f"genes.heads.{i}.{j}"
        for i in range(6)
        for j in (0, 1, 4)
    },
}


def build(dim_in: int, n_classes: int, sizes):
    dims = Dims(dim_in=dim_in, n_classes=n_classes, n_genes=sum(sizes))
    return build_model("g_hanet", dims, options={"group_sizes": sizes}).eval()


def our_name(official: str) -> str | None:
    if official == "recon_net.tokens":
        return "genomic.tokens"
    part, _, kind = official.rpartition(".")
    return f"{NAMES[part]}.{kind}" if part in NAMES else None


def sine_filled(dim_in: int, n_classes: int, sizes):
    model = build(dim_in, n_classes, sizes).double()
    own, state = model.state_dict(), {}
    for place, name, _ in GOLDEN["param_order"]:
        mine = our_name(name)
        if mine is None:
            assert "cross_attention1" in name  # never called; it counts in the order
            continue
        state[mine] = fill(place, name, list(own[mine].shape))
    buffers = {k: v for k, v in own.items() if k not in state}
    assert set(buffers) == {"genes.order", "genes.is_target"}
    model.load_state_dict(state | buffers)
    return model


@pytest.mark.parametrize(
    ("dim_in", "n_classes", "sizes"),
    [(1024, 4, BRCA), (1536, 2, BRCA), (1536, 2, EQUAL), (1536, 2, SMALL)],
)
def test_sizes(dim_in, n_classes, sizes):
    n_weights = sum(p.numel() for p in build(dim_in, n_classes, sizes).parameters())
    wanted = GOLDEN[f"D={dim_in}.C={n_classes}.omic={list(sizes)}.params"]
    assert n_weights + DEAD == wanted


def test_sizes_by_part():
    model = build(1536, 2, EQUAL)
    wanted = GOLDEN["params_by_part(D=1536,C=2,omic=[128]*6)"]
    parts = {
        "gate": "morphology",
        "wsi_net": "encoder",
        "classifier": "head",
        "hyperconv1": "hyper",
        "attention": "attention",
        "ffn": "feed",
        "ln1": "norm",
        "butter": "squeeze",
    }
    for official, ours in parts.items():
        assert sum(p.numel() for p in getattr(model, ours).parameters()) == wanted[official]
    both = [p for part in (model.genomic, model.genes) for p in part.parameters()]
    assert sum(p.numel() for p in both) + DEAD == wanted["recon_net"]
    assert GOLDEN["fact.params_without_grad"] == ["recon_net.cross_attention1"]


@pytest.mark.parametrize(("dim_in", "n_classes", "sizes"), [(1024, 4, BRCA), (1536, 2, SMALL)])
def test_published_numbers(dim_in, n_classes, sizes):
    model = sine_filled(dim_in, n_classes, sizes)
    x = sine_input(40, dim_in)
    ((_, reading),) = model.read([Bag(slide_id="sine", embeddings=x)])
    key = f"D={dim_in}.C={n_classes}.sinfill"
    logits = reading.logits[0].detach()
    close = {"atol": 1e-8, "rtol": 0}
    np.testing.assert_allclose(logits, GOLDEN[f"{key}.N=40.logits"], **close)
    hazards = torch.sigmoid(logits)
    np.testing.assert_allclose(hazards, GOLDEN[f"{key}.hazards"], **close)
    np.testing.assert_allclose(torch.cumprod(1 - hazards, 0), GOLDEN[f"{key}.S"], **close)
    rebuilt = model.genes(reading.tokens)
    assert [r.shape[1] for r in rebuilt] == list(sizes)
    found = [r[0, :3].tolist() for r in rebuilt]
    np.testing.assert_allclose(found, GOLDEN[f"{key}.recon_first3_of_each_group"], **close)
    _, scores = model.genomic(x[None])
    assert list(scores[0].shape) == GOLDEN[f"{key}.matrix_shape_returned(head-mean)"]
    single = model.float()(Bag(slide_id="sine", embeddings=x.float())).logits.detach()
    np.testing.assert_allclose(single, GOLDEN[f"{key}.N=40.logits"], atol=1e-4, rtol=0)


def test_distance_of_the_toy():
    a, b = sine_input(1, 32), sine_input(2, 32)[1:]
    cosine = torch.nn.functional.cosine_similarity(a, b)
    angle = float((1 - cosine) ** 3)
    assert angle == pytest.approx(
        GOLDEN["loss.sce_loss(alpha=3) on two fixed 32-vectors"][0], abs=1e-8
    )
    assert GOLDEN["fact.sce == (1-cos)^3"] == 0
    squared = GOLDEN["loss.mse same"][0]
    assert float(sample_distance(a, b)) == pytest.approx(angle + squared, abs=1e-8)


def test_facts():
    model, x = sine_filled(1536, 2, SMALL), sine_input(40, 1536)
    assert int(model.options.attended * 40) == GOLDEN["fact.k_of_topk(ratio=.2,N=40)"]
    bag = Bag(slide_id="s", embeddings=x)
    flipped = Bag(slide_id="s", embeddings=x.flip(0))
    torch.testing.assert_close(model(flipped).logits, model(bag).logits)
    assert GOLDEN["fact.permutation_invariant_maxdiff"] < 1e-6
    assert GOLDEN["fact.omics_kwargs_ignored_maxdiff"] == 0
    # fewer than five tiles end the original; here a token keeps at least one
    assert "IndexError" in GOLDEN["fact.N=4"]
    assert bool(model(Bag(slide_id="s", embeddings=x[:4])).logits.isfinite().all())
    model(bag).logits.sum().backward()
    assert bool(model.genomic.tokens.grad.any())
    assert GOLDEN["fact.survival_head_gradient_reaches_recon_tokens"]
