"""What the baselines that learn from RNA take from the training cases before the first step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from momkd.models.table import build_model
from momkd.types import Bag, Dims, Sample
from tests.contract.test_models import Samples

DIM, N_CASES, N_GENES = 6, 60, 12


@pytest.fixture(scope="module")
def cases():
    """Genes 0, 3, 6, 9 follow one hidden value, 1, 4, 7, 10 another, the rest a third.

    The first hidden value is the label; slides show it too, weakly.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(N_CASES) % 2
    hidden = rng.standard_normal((N_CASES, 3))
    hidden[:, 0] = 3 * labels + 0.3 * hidden[:, 0]
    rna = hidden[:, np.arange(N_GENES) % 3] + 0.1 * rng.standard_normal((N_CASES, N_GENES))
    samples = []
    for i, label in enumerate(labels.tolist()):
        x = rng.standard_normal((7, DIM)) + label
        bag = Bag(slide_id=f"s{i}", embeddings=torch.from_numpy(x.astype(np.float32)))
        genes = torch.from_numpy(rna[i].astype(np.float32))
        samples.append(Sample(case_id=f"c{i}", label=label, bag=bag, rna=genes))
    return samples


def g_hanet():
    torch.manual_seed(0)
    options = {"dim": 16, "dim_hidden": 8, "dim_attention": 8, "dim_token": 4, "n_groups": 3}
    return build_model("g_hanet", Dims(dim_in=DIM, n_genes=N_GENES), options=options)


def test_g_hanet_groups_what_moves_together_and_rebuilds_what_differs(cases):
    model = g_hanet()
    model.prepare(Samples(cases))
    groups = [{g % 3 for g in part} for part in model.genes.order.view(3, 4).tolist()]
    assert sorted(map(tuple, groups)) == [(0,), (1,), (2,)]
    rna = np.stack([s.rna.numpy() for s in cases]).astype(np.float64)
    labels = np.array([s.label for s in cases])
    p = ttest_ind(rna[labels == 1], rna[labels == 0], equal_var=False).pvalue
    chosen = set(model.genes.order[model.genes.is_target].tolist())
    assert {g for g in range(N_GENES) if p[g] < 0.05} <= chosen
    # a group without any keeps one
    assert all(mask.any() for mask in model.genes.is_target.view(3, 4))


def test_g_hanet_counts_a_case_once_and_reads_no_slide_for_it(cases):
    once, twice = g_hanet(), g_hanet()
    again = [replace(s, bag=replace(s.bag, slide_id=f"{s.bag.slide_id}-B")) for s in cases[:20]]
    source = Samples([*cases, *again])
    source.iterate = lambda _: pytest.fail("a slide was read")
    once.prepare(Samples(cases))
    twice.prepare(source)
    assert torch.equal(once.genes.order, twice.genes.order)
    assert torch.equal(once.genes.is_target, twice.genes.is_target)


def test_tdc_teacher_learns_is_chosen_and_is_frozen(cases):
    torch.manual_seed(0)
    options = {
        "dim": 16,
        "dim_attention": 8,
        "dim_feature": 8,
        "teacher": {"epochs": 12, "lr": 5e-3},
    }
    model = build_model("tdc", Dims(dim_in=DIM, n_genes=N_GENES), options=options)
    start = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    student = {k: v.clone() for k, v in model.student.state_dict().items()}
    model.prepare(Samples(cases))
    assert float(model.teacher.auroc) > 0.9
    learnt = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    assert any(not torch.equal(learnt[k], start[k]) for k in learnt)
    assert all(torch.equal(v, student[k]) for k, v in model.student.state_dict().items())
    assert len(model.contrast["fused"].keys) == N_CASES
    model.train()
    assert not model.teacher.training
    for _ in range(3):
        losses = model.losses(cases[:16])
        losses.total.backward()
        model.after_step(losses)
    assert all(torch.equal(v, learnt[k]) for k, v in model.teacher.state_dict().items())
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.mean_student.steps == 3
    moved = model.contrast["fused"].student_side.norm(dim=1)
    torch.testing.assert_close(moved, torch.ones(N_CASES))


def test_tdc_without_a_pair_says_so(cases):
    torch.manual_seed(0)
    model = build_model(
        "tdc", Dims(dim_in=DIM, n_genes=N_GENES), options={"teacher": {"epochs": 1}}
    )
    model.prepare(Samples([replace(s, rna=None) for s in cases]))
    assert "too few paired cases" in model.start_notes[0]
    assert set(model.losses(cases[:4]).terms) >= {"ce", "kl_mean", "contrast_mean"}
