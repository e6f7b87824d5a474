import numpy as np
import pytest
import torch

from momkd.models.mkd import MKDOptions
from momkd.models.table import build_model
from momkd.nn.batch_relations import (
    overlap,
    relation_distance,
    second_moment_distance,
    tempered_divergence,
)
from momkd.types import Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("mkd")


def attention(official: str, ours: str) -> dict[str, str]:
    return {
        f"{official}.attention_V.0": f"{ours}.content",
        f"{official}.attention_U.0": f"{ours}.gate",
        f"{official}.attention_weights": f"{ours}.score",
    }


NAMES = {
    "student": attention("attention", "attention")
    | {"classifier.fc": "head", "_fc1.0": "encoder.0"},
    "teacher_mul": attention("attention_path", "slide_attention")
    | attention("attention_snn", "rna_attention")
    | {
        "wsi_net.0": "slide_encoder.0",
        "snn.0": "rna_encoder.0",
        "mm.linear_h1.0": "fusion.gated_a.content",
        "mm.linear_z1": "fusion.gated_a.gate",
        "mm.linear_o1.0": "fusion.gated_a.output",
        "mm.linear_h2.0": "fusion.gated_b.content",
        "mm.linear_z2": "fusion.gated_b.gate",
        "mm.linear_o2.0": "fusion.gated_b.output",
        "mm.encoder1.0": "fusion.encoder_1.0",
        "mm.encoder2.0": "fusion.encoder_2.0",
        "classifier": "head",
    },
    "teacher_omic": attention("abmil.attention", "attention")
    | {"fc1.0": "encoder.0", "abmil.classifier.fc": "head"},
}
PARTS = {"student": "student", "teacher_mul": "pair_teacher", "teacher_omic": "rna_teacher"}


def build(dim_in: int = 1536):
    dims = Dims(dim_in=dim_in, n_genes=8192)
    return build_model("mkd", dims, options={"n_tokens": 16})


@pytest.fixture(scope="module")
def model():
    model = build().double().eval()
    for net, names in NAMES.items():
        state = {}
        for place, name, shape in GOLDEN[f"{net}.param_order"]:
            part, _, kind = name.rpartition(".")
            if part in names:  # the RNA teacher's second classifier counts, and is not built here
                state[f"{names[part]}.{kind}"] = fill(place, name, shape)
        getattr(model, PARTS[net]).load_state_dict(state)
    return model


@pytest.mark.parametrize("dim_in", [1024, 1536])
def test_sizes(dim_in):
    model = build(dim_in)
    counts = {net: sum(p.numel() for p in getattr(model, PARTS[net]).parameters()) for net in PARTS}
    wanted = GOLDEN[f"D={dim_in}.params"]
    assert counts["student"] == wanted["student"]
    assert counts["teacher_mul"] == wanted["teacher_multimodal"]
    unused = GOLDEN["fact.omic_teacher_unused_top_level_classifier_params"]
    assert counts["teacher_omic"] + unused == wanted["teacher_omic"]


def read(model):
    tiles = sine_input(9, 1536)
    segments = torch.zeros(9, dtype=torch.int64)
    tokens = sine_input(1, 8192).view(1, 16, 512)
    return (
        model.student(tiles, segments, 1)[0],
        model.pair_teacher(tiles, segments, tokens),
        model.rna_teacher(tokens),
    )


def test_published_numbers_of_the_three_networks(model):
    with torch.no_grad():
        for net, says in zip(("student", "teacher_mul", "teacher_omic"), read(model), strict=True):
            # computed in float32 by the original
            wanted = GOLDEN[f"sinfill.{'N=9.' if net == 'student' else ''}{net}_logits"]
            np.testing.assert_allclose(says.logits[0], wanted, atol=1e-6, rtol=0)
            wanted = GOLDEN[f"sinfill.{net}_feat_first4"]
            np.testing.assert_allclose(says.features[0, :4], wanted, atol=1e-6, rtol=0)
            assert list(says.features.shape) == GOLDEN["sinfill.feature_shapes"][0]


def test_loss_terms_of_the_toy():
    a, b, c = sine_input(4, 8), sine_input(8, 8)[4:], sine_input(12, 8)[8:]
    x, y = sine_input(4, 2), sine_input(8, 2)[4:]
    found = {
        "loss.SP(A,B)": relation_distance(a, b),
        "loss.KL_T4(a||b) [student=a, teacher=b]": tempered_divergence(x, y, 4.0),
        "loss.mean_cov(A,B)": second_moment_distance(a, b),
        "loss.ortho/6(A,B,C)": (overlap(a, b) + overlap(a, c) + overlap(b, c)) / 6,
    }
    for key, value in found.items():
        assert float(value) == pytest.approx(GOLDEN[key][0], abs=1e-7), key


@pytest.fixture
def window(model):
    """The published window: four slides of five tiles, each a tile further, and their RNA."""
    tiles = torch.cat([sine_input(5 + i, 1536)[i:] for i in range(4)])
    segments = torch.arange(4).repeat_interleave(5)
    tokens = sine_input(4, 8192).view(4, 16, 512)
    model.zero_grad()
    student, _ = model.student(tiles, segments, 4)
    return student, model.pair_teacher(tiles, segments, tokens), model.rna_teacher(tokens)


def test_window(model, window):
    labels = torch.tensor([0, 1, 0, 1])
    entropies = [torch.nn.functional.cross_entropy(says.logits, labels) for says in window]
    terms = model.relate(*window) | {"ce": torch.stack(entropies).sum()}
    weights = MKDOptions().weights
    weighed = {name: getattr(weights, name) * term for name, term in terms.items()}
    names = {
        "ce": "ce3",
        "relations": "skd_x_gc",
        "divergence": "kl_4dirs",
        "alignment": "align_mean_cov",
        "orthogonality": "ortho",
    }
    for ours, official in names.items():
        wanted = GOLDEN["window.terms"][official]  # computed in float32
        assert float(weighed[ours].detach()) == pytest.approx(wanted, abs=2e-6), ours
    total = torch.stack(list(weighed.values())).sum()
    wanted = GOLDEN["window.total_objective"][0]
    assert float(total.detach()) == pytest.approx(wanted, abs=5e-6)
    assert float(total.detach()) == pytest.approx(
        GOLDEN["window.official_logged_train_loss"], abs=1e-4
    )
    total.backward()
    for official, layer in first_layers(model).items():
        norm = float(layer.weight.grad.norm())
        for key in ("official", "formula"):
            wanted = GOLDEN[f"window.grad_norms_{key}"][official]
            assert norm == pytest.approx(wanted, rel=1e-5), (official, key)


def first_layers(model):
    """What the published gradient norms are norms of."""
    return {
        "mul": model.pair_teacher.slide_encoder[0],
        "omic": model.rna_teacher.encoder[0],
        "student": model.student.encoder[0],
    }


def test_teachers_are_pulled_by_the_relations_too(model, window):
    model.relate(*window)["relations"].backward()
    norms = [float(layer.weight.grad.norm()) for layer in first_layers(model).values()]
    wanted = GOLDEN["fact.grad_norm_of_SP_term_on(mul teacher, omic teacher, student)"]
    np.testing.assert_allclose(norms, wanted, atol=2e-6, rtol=0)
