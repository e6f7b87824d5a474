import numpy as np
import pytest
import torch

from momkd.models.table import build_model
from momkd.nn.bilinear_fusion import BilinearFusion
from momkd.nn.contrast_memory import (
    ContrastMemory,
    discrepancy_weight,
    refine_weights,
    soft_divergence,
)
from momkd.types import Dims
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("tdc")

FUSION_NAMES = {
    "linear_h1.0": "gated_a.content",
    "linear_z1": "gated_a.gate",
    "linear_o1.0": "gated_a.output",
    "linear_h2.0": "gated_b.content",
    "linear_z2": "gated_b.gate",
    "linear_o2.0": "gated_b.output",
    "encoder1.0": "encoder_1.0",
    "encoder1.1": "encoder_1.1",
    "encoder2.0": "encoder_2.0",
    "encoder2.1": "encoder_2.1",
}


@pytest.fixture(scope="module")
def fusion():
    module = BilinearFusion(128, 128, dim_hidden=128, dim_out=128, dropout=0.25, batch_norm=True)
    module = module.double().eval()
    state = {}
    for place, name, shape in GOLDEN["fusion.param_order"]:
        part, _, kind = name.rpartition(".")
        state[f"{FUSION_NAMES[part]}.{kind}"] = fill(place, name, shape)
    statistics = {k: v for k, v in module.state_dict().items() if k not in state}
    module.load_state_dict(state | statistics)
    return module


def test_fusion_has_the_published_size_and_numbers(fusion):
    assert sum(p.numel() for p in fusion.parameters()) == GOLDEN["fusion(128,128->128).params"]
    # the published numbers were computed in float32
    with torch.no_grad():
        # the original applies the ReLU that ends both features (again) on entry
        features = torch.relu(sine_input(4, 128))
        out = fusion(features[:2], features[2:]).numpy()
    np.testing.assert_allclose(
        out.sum(axis=1), GOLDEN["fusion.sinfill.eval.out_sum_per_row"], atol=5e-8, rtol=0
    )
    np.testing.assert_allclose(
        out.max(axis=1), GOLDEN["fusion.sinfill.eval.out_max_per_row"], atol=5e-8, rtol=0
    )
    first = GOLDEN["fusion.sinfill.eval.row0_nonzero_index_value(first 6)"]
    assert np.flatnonzero(out[0])[:6].tolist() == [place for place, _ in first]
    np.testing.assert_allclose(out[0][out[0] != 0][:6], [v for _, v in first], atol=5e-8, rtol=0)


def test_divergence():
    values = soft_divergence(sine_input(4, 2), sine_input(8, 2)[4:]).numpy()
    np.testing.assert_allclose(values, GOLDEN["KL(T=1).per_sample"], atol=1e-8, rtol=0)
    assert values.mean() == pytest.approx(GOLDEN["KL(T=1).batch"][0], abs=1e-8)


def test_margin_weight():
    student = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]]).double().log()
    teacher = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1]]).double().log()
    weights = discrepancy_weight(student, teacher, torch.tensor([0, 1, 0])) - 1
    wanted = GOLDEN["discrepancy_weight(max_discrep=1) [before +1]"]
    np.testing.assert_allclose(weights, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize("threshold", [0.25, None])
def test_refinement(threshold):
    pulls = torch.tensor([[1, 0, 0], [1, 1, 0], [-1, 0, 0], [0, 0, 1], [1, 0.5, 0]]).double()
    weights = refine_weights(pulls[:, None].expand(5, 2, 3), threshold)
    wanted = GOLDEN[f"gk_refine.use_grads_thresh={threshold is not None}.scale(4 KD + CE)"]
    for column in weights.T:
        np.testing.assert_allclose(column, wanted, atol=1e-8, rtol=0)
    # the two published totals differ by the first two terms alone: theirs are .75 and 1.25 on
    # average, the other three (each of weight 1 or, for the classification, unweighted) add 1.75
    total = 0.75 * weights[0].mean() + 1.25 * weights[1].mean() + 1.75
    key = f"gk_refine.use_grads_thresh={threshold is not None}.total"
    assert float(total) == pytest.approx(GOLDEN[key][0], abs=1e-7)


def contrast_by_hand(memory, student, teacher, rows, negatives):
    """Do the sum of the docstring with loops, in float64."""

    def unit(layer, x):
        y = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        return y / np.linalg.norm(y, axis=1, keepdims=True)

    n = len(memory.keys)
    n_negatives = negatives.shape[1]
    labels = memory.labels.numpy()
    totals, scales = np.zeros(len(rows)), []
    anchors = (unit(memory.embed_student, student), unit(memory.embed_teacher, teacher))
    sides = (memory.teacher_side.numpy(), memory.student_side.numpy())
    for e, side in zip(anchors, sides, strict=True):
        chosen = []
        for i, row in enumerate(rows):
            s = np.array([side[row] @ side[j] * (labels[row] == labels[j]) for j in range(n)])
            positives = np.argsort(-s, kind="stable")[: memory.n_positives]
            assert positives[0] == row
            near = [np.exp(e[i] @ side[p] / memory.temperature) for p in positives]
            far = [np.exp(e[i] @ side[k] / memory.temperature) for k in negatives[i]]
            chosen.append((s[positives], near, far))
        scale = n * np.mean([v for _, near, far in chosen for v in (*near, *far)])
        scales.append(scale)
        noise = n_negatives / n
        for i, (s, near, far) in enumerate(chosen):
            pull = sum(
                w * np.log(x / scale / (x / scale + noise)) for w, x in zip(s, near, strict=True)
            )
            push = sum(np.log(noise / (x / scale + noise)) for x in far)
            totals[i] -= pull / s.sum() + push
    return totals, scales


@pytest.fixture(scope="module")
def toy():
    """The size of the published toy: 20 samples, 3 positives, 7 negatives, 4 in the batch."""
    torch.manual_seed(2)
    memory = ContrastMemory(
        6, 5, 4, n_positives=3, n_negatives=7, temperature=0.07, momentum=0.5
    ).double()
    memory.start(torch.arange(100, 120), torch.arange(20) % 3)
    for side in (memory.student_side, memory.teacher_side):
        side.abs_()  # no similarity is 0 or less, so there are no ties among positives
    rows = memory.rows(torch.tensor([101, 107, 110, 119]))
    return memory, torch.randn(4, 6).double(), torch.randn(4, 5).double(), rows


def test_contrast_is_the_sum_of_its_equation(toy):
    memory, student, teacher, rows = toy
    negatives = memory.draw_negatives(rows)
    contrast = memory(student, teacher, rows, negatives)
    wanted, scales = contrast_by_hand(
        memory, student.numpy(), teacher.numpy(), rows.tolist(), negatives.numpy()
    )
    np.testing.assert_allclose(contrast.losses.detach(), wanted, atol=1e-7, rtol=0)
    np.testing.assert_allclose(contrast.scale, scales, rtol=1e-9)
    n_terms = memory.n_positives + negatives.shape[1]
    assert n_terms == GOLDEN["fact.number_of_denominators(P positives + K negatives)"]


def test_negatives_are_distinct_others(toy):
    memory, _, _, rows = toy
    for row, drawn in zip(rows.tolist(), memory.draw_negatives(rows).tolist(), strict=True):
        assert len(set(drawn)) == 7
        assert row not in drawn
    memory.n_negatives = 4096
    for row, drawn in zip(rows.tolist(), memory.draw_negatives(rows).tolist(), strict=True):
        assert sorted([row, *drawn]) == list(range(20))
    memory.n_negatives = 7


def test_memory_moves_half_way_and_its_scale_stays(toy):
    memory, student, teacher, rows = toy
    contrast = memory(student, teacher, rows, memory.draw_negatives(rows))
    before = memory.student_side[rows].clone()
    memory.move(contrast)
    after = memory.student_side[rows]
    wanted = torch.nn.functional.normalize(0.5 * before + 0.5 * contrast.student, dim=1)
    torch.testing.assert_close(after, wanted)
    key = "crd.memory_update_row0_cos_with_new"
    assert float(after[0] @ wanted[0]) == pytest.approx(GOLDEN[key], abs=1e-7)
    again = memory(student, teacher, rows, memory.draw_negatives(rows))
    torch.testing.assert_close(again.scale, contrast.scale)
    assert memory.rows(torch.tensor([3])).tolist() == [-1]


def test_parts_have_the_sizes_of_the_formula():
    model = build_model("tdc", Dims(dim_in=1536, n_genes=768))
    served = sum(p.numel() for p in model.student.parameters())
    assert served == 1_049_857 + 65_664 + 256 + 258
    assert sum(p.numel() for p in model.teacher.rna_net.parameters()) == 58_386
    for name in ("fused", "mean"):
        assert sum(p.numel() for p in model.contrast[name].parameters()) == 2 * 16_512
