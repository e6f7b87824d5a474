"""MoMKD against numbers of the published code, and against its equations done plainly."""

import math

import numpy as np
import pytest
import torch

from momkd.models.momkd import MoMKD
from momkd.models.table import build_model
from momkd.nn.alignment import class_margin, class_similarity, margin_alignment
from momkd.nn.assignment import nearest_slots
from momkd.nn.graph_attention import backends, choose_kernels, listening_lists
from momkd.nn.memory import orthogonality, quantisation
from momkd.types import Bag, Dims, Sample
from tests.parity.sine import fill, load_golden, sine_input

GOLDEN = load_golden("momkd")


@pytest.fixture(autouse=True, params=["torch", "numba"])
def kernels(request, monkeypatch):
    """Every published number is asked of every backend."""
    choice = choose_kernels(request.param)
    if choice.backend != request.param:
        pytest.skip(choice.note)
    monkeypatch.setattr(backends, "default_kernels", lambda _kind="cpu": choice)
    return choice


DIMS = Dims(dim_in=1536, n_classes=2, n_genes=768)
NO_DROPOUT = {"dropout": 0, "dropout_attention": 0, "dropout_rna": 0, "dropout_head": 0}
# the published code at the sizes of its run script and at those of the paper
SIZES = {
    "run.sh": {"dim": 512, "dim_rna": 512, "dim_shared": 64},
    "paper_dims": {"dim": 256, "dim_rna": 256, "dim_shared": 128},
}

NAMES = {
    "rna_tower.encoder": "rna_encoder",
    "wsi_encoder.gat1.att": "encoder.graph_1.attention",
    "wsi_encoder.gat2.att": "encoder.graph_2.attention",
    "wsi_encoder.gat1.lin_l": "encoder.graph_1.source",
    "wsi_encoder.gat1.lin_r": "encoder.graph_1.target",
    "wsi_encoder.gat2.lin_l": "encoder.graph_2.source",
    "wsi_encoder.gat2.lin_r": "encoder.graph_2.target",
    "wsi_encoder.gat1": "encoder.graph_1",
    "wsi_encoder.gat2": "encoder.graph_2",
    "wsi_encoder.res_proj1": "encoder.residual",
    "wsi_encoder.ln": "encoder.norm_",
    "rna_decoder.decoder": "rna_decoder",
    "rna_projector": "rna_projection",
    "wsi_patch_projector": "tile_projection",
    "wsi_pool_projector": "slide_projection",
    "wsi_classifier_proto": "head",
    "attn_log_tau": "log_temperature",
}
PARTS = {
    "wsi_encoder": "encoder",
    "patch_projector": "tile_projection",
    "pool_projector": "slide_projection",
    "rna_tower": "rna_encoder",
    "rna_projector": "rna_projection",
    "rna_decoder": "rna_decoder",
    "classifier": "head",
}
TERMS = {
    "ce": "ce",
    "mem": "memory",
    "align_rna": "align_omics",
    "align_wsi": "align_wsi",
    "recon": "reconstruction",
}


def ours(official: str) -> str:
    for theirs, name in NAMES.items():
        if official.startswith(theirs):
            return name + official.removeprefix(theirs)
    raise KeyError(official)


def sine_filled(size: str) -> MoMKD:
    model = build_model("momkd", DIMS, "code", {**SIZES[size], **NO_DROPOUT}).double()
    state = model.state_dict()
    for place, name, _ in GOLDEN["param_order(run.sh)"]:
        if name.startswith("mem_"):
            shape = (1, *model.memory.slots.shape[1:])
            state["memory.slots"][1 if "pos" in name else 0] = fill(place, name, shape)[0]
        else:
            shape = tuple(state[ours(name)].shape)
            if name.endswith(".att"):
                shape = (1, *shape)
            state[ours(name)] = fill(place, name, shape).view_as(state[ours(name)])
    model.load_state_dict(state)
    return model


def ring(n_tiles: int, n_next: int) -> torch.Tensor:
    i = torch.arange(n_tiles)[:, None]
    return ((i + torch.arange(1, n_next + 1)) % n_tiles).int()


def sine_bag(dtype=torch.float64) -> Bag:
    x = sine_input(12, 1536).to(dtype)
    return Bag(slide_id="sine", embeddings=x, neighbours=ring(12, 3))


def sine_sample(label: int, dtype=torch.float64) -> Sample:
    rna = sine_input(1, 768)[0].float()
    return Sample(case_id="sine", label=label, bag=sine_bag(dtype), rna=rna)


@pytest.mark.parametrize("size", list(SIZES))
def test_published_forward(size):
    model = sine_filled(size).eval()
    output = model(sine_bag())
    wanted = GOLDEN[f"{size}.sinfill.eval.logits"]
    np.testing.assert_allclose(output.logits.detach(), wanted, atol=1e-8, rtol=0)
    wanted = GOLDEN[f"{size}.sinfill.eval.attention"]
    np.testing.assert_allclose(output.attention.detach(), wanted, atol=1e-8, rtol=0)
    wanted = GOLDEN[f"{size}.sinfill.tau=clamp(exp(log_tau),.01,2)"]
    assert model.diagnostics()["temperature"] == pytest.approx(wanted[0], abs=1e-8)
    single = model.float()(sine_bag(torch.float32))
    wanted = GOLDEN[f"{size}.sinfill.eval.logits"]
    np.testing.assert_allclose(single.logits.detach(), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("size", list(SIZES))
def test_published_losses(size, label):
    # the official training numbers were made in float32, hence 2e-6 in our float64
    model = sine_filled(size)
    losses = model.losses([sine_sample(label)])
    weights = model.options.weights
    for theirs, value in GOLDEN[f"{size}.train(nodrop).y={label}.terms"].items():
        term = losses.terms[TERMS[theirs]].item() / getattr(weights, TERMS[theirs])
        assert term == pytest.approx(value, abs=2e-6), theirs
    wanted = GOLDEN[f"{size}.train(nodrop).y={label}.total(code weights .5/.1/.05/.2/.05)"]
    assert losses.total.item() == pytest.approx(wanted[0], abs=1e-6)
    single = model.float().losses([sine_sample(label, torch.float32)])
    assert single.total.item() == pytest.approx(wanted[0], abs=1e-4)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("size", list(SIZES))
def test_equation_11_on_the_same_tensors(size, label):
    model = sine_filled(size)
    with torch.no_grad():
        slots = model.memory.slots
        points = model._read([sine_bag()], model.memory.unit(), with_points=True).points
        labels = torch.full((12,), label)
        nearest = nearest_slots(points, labels, slots)
        best = (points @ model.memory.unit()[1].T).argmax(dim=1)
        assert best.tolist() == GOLDEN[f"{size}.train(nodrop).idx_pos"]  # of the attention
        pull = quantisation(points, slots, nearest).mean()
        total = pull + orthogonality(model.memory.unit())[label]
    code, paper = GOLDEN[f"{size}.y={label}.commit(code), commit(paper)"]
    assert pull.item() == pytest.approx(paper, abs=2e-6)
    assert pull.item() / points.shape[1] == pytest.approx(code, abs=2e-7)
    wanted = GOLDEN[f"{size}.y={label}.L_mem paper eq.11 on the same tensors"]
    assert total.item() == pytest.approx(wanted, abs=5e-6)


def test_parameter_counts():
    def count(preset, **options):
        model = build_model("momkd", DIMS, preset, options)
        return sum(p.numel() for p in model.parameters()), model

    total, model = count("code")
    assert total == GOLDEN["params[run.sh(512/512/64,K=16)]"] == 4_372_803
    parts = GOLDEN["params_by_part(run.sh)"]
    for theirs, name in [("rna_tower", "rna_encoder"), ("wsi_encoder", "encoder"),
                         ("rna_decoder", "rna_decoder"), ("rna_projector", "rna_projection"),
                         ("wsi_patch_projector", "tile_projection"),
                         ("wsi_pool_projector", "slide_projection"),
                         ("wsi_classifier_proto", "head")]:  # fmt: skip
        assert sum(p.numel() for p in getattr(model, name).parameters()) == parts[theirs]
    assert model.memory.slots.numel() == parts["mem_pos"] + parts["mem_neg"]
    served = sum(tensor.numel() for _, tensor in model.serving_state())
    assert served == GOLDEN["params_used_at_inference(run.sh)"] == 2_992_067
    alone = build_model("momkd", Dims(dim_in=1536), "code")
    assert sum(p.numel() for p in alone.parameters()) == served
    assert count("code", n_slots=64)[0] == GOLDEN["params[main.py default K=64]"]
    narrow = SIZES["paper_dims"]
    assert count("code", **narrow)[0] == GOLDEN["params[paper(256/256/128,K=16)]"] == 2_503_171
    assert (
        count("code", **narrow, n_slots=4)[0] == GOLDEN["params[MKD() defaults(256/256/128,K=4)]"]
    )
    # the paper's preset: no temperature, and one linear layer in place of the deep head
    deep_head, linear_head = 512 + (256 + 1) * 128 + (128 + 1) * 2, (256 + 1) * 2
    assert count("paper")[0] == 2_503_171 - 1 - deep_head + linear_head == 2_470_018


def parts_of(model: MoMKD) -> dict[str, torch.nn.Module]:
    return {theirs: getattr(model, name) for theirs, name in PARTS.items()}


def gradients(model: MoMKD, sample: Sample, term: str) -> dict[str, float]:
    """Norm of the gradient of one unweighted term on each part; mem_neg and mem_pos apart."""
    model.zero_grad()
    weight = getattr(model.options.weights, term)
    (model.losses([sample]).terms[term] / weight).backward()
    norms = {}
    for name, part in parts_of(model).items():
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        norms[name] = math.sqrt(sum(float(g.square().sum()) for g in grads))
    slots = model.memory.slots.grad
    for label, name in enumerate(("mem_neg", "mem_pos")):
        norms[name] = 0.0 if slots is None else float(slots[label].norm())
    tau = model.log_temperature
    norms["attn_log_tau"] = 0.0 if tau is None or tau.grad is None else abs(float(tau.grad))
    return norms


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("term", list(TERMS))
def test_gradient_table_of_the_published_code(term, label):
    model = sine_filled("run.sh")
    found = gradients(model, sine_sample(label), TERMS[term])
    wanted = dict(GOLDEN[f"grad[y=1].{term}"])
    if term == "mem" and label == 0:
        wanted["mem_neg"], wanted["mem_pos"] = wanted["mem_pos"], wanted["mem_neg"]
    for part, norm in wanted.items():
        assert (found[part] == 0) == (norm == 0), (part, found[part])


@pytest.mark.parametrize("label", [0, 1])
def test_gradient_table_of_the_paper(label):
    slides = ("wsi_encoder", "patch_projector")
    memory = ("mem_neg", "mem_pos")
    moved = {
        "ce": {*slides, "classifier"},
        "align_wsi": {*slides, "pool_projector", *memory},
        "align_omics": {"rna_tower", "rna_projector", *memory},
        "reconstruction": {"rna_tower", "rna_decoder"},
        "memory": {*slides, *memory},
    }
    torch.manual_seed(0)
    model = build_model("momkd", DIMS, "paper", NO_DROPOUT).double()
    for term, parts in moved.items():
        found = gradients(model, sine_sample(label), term)
        assert {name for name, norm in found.items() if norm > 0} == parts, term


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_memory_loss_moves_the_memory_by_orthogonality_only(preset):
    torch.manual_seed(0)
    model = build_model("momkd", DIMS, preset, NO_DROPOUT).double()
    (model.losses([sine_sample(1)]).terms["memory"] / 0.1).backward()
    slots = model.memory.slots.detach().clone().requires_grad_()
    spread = orthogonality(torch.nn.functional.normalize(slots, dim=-1))
    (spread.sum() if preset == "paper" else 10 / 16**2 * spread[1]).backward()
    torch.testing.assert_close(model.memory.slots.grad, slots.grad, atol=1e-12, rtol=1e-10)


def test_published_alignment_values():
    slots = torch.eye(2).double()
    memory = torch.stack([-slots, slots])
    keys = {(1.0, 0.0): "(1,0)", (0.6, 0.8): "(.6,.8)", (0.6, -0.8): "(0.6,-0.8)"}
    for vector, name in keys.items():
        point = torch.tensor([vector]).double()
        phi = class_similarity(point, memory, 5.0)[0]
        delta = class_margin(point, memory, 5.0)
        loss = [
            float(margin_alignment(delta, torch.tensor([y]), scale=20.0, margin=0.3))
            for y in (0, 1)
        ]
        found = [float(phi[1]), float(phi[0]), float(delta), loss[0], loss[1]]
        for what, value in zip(("phi+", "phi-", "Delta", "L(y=0)", "L(y=1)"), found, strict=True):
            golden = GOLDEN[f"align.F={name}.{what}"]  # float32 in places
            assert value == pytest.approx(golden, rel=2e-6), (name, what)


def test_first_step_of_the_published_optimiser_moves_the_memory_by_its_rate():
    model = sine_filled("run.sh").float()
    before = model.memory.slots.detach().clone()
    decayed, spared = model.decay_groups()
    assert not spared
    optimiser = torch.optim.AdamW(decayed, lr=2e-4, weight_decay=1e-4)
    losses = model.losses([sine_sample(1, torch.float32)])
    losses.total.backward()
    optimiser.step()
    model.after_step(losses)
    steps = (model.memory.slots.detach() - before).abs().amax(dim=(1, 2))
    wanted = GOLDEN["fact.after_one_step max|d mem_pos|, max|d mem_neg| (lr=2e-4)"]
    np.testing.assert_allclose(steps.flip(0), wanted, rtol=2e-4)
    norms = model.memory.slots.detach()[1].norm(dim=1)
    low, high = GOLDEN["fact.memory_row_norms_after_sinfill_step(min,max): not renormalised"]
    assert float(norms.min()) == pytest.approx(low, abs=1e-4)
    assert float(norms.max()) == pytest.approx(high, abs=1e-4)


def test_who_influences_whom_in_the_published_direction():
    edges = GOLDEN["knn(k=2).edge_index"]
    neighbours = torch.tensor(edges[1]).view(5, 2).int()
    lists = listening_lists(neighbours, "listed_by")
    heard = (lists[:, 1:] >= 0).sum(dim=1).tolist()
    assert heard == GOLDEN["knn.in_degree(as PyG target)"]
    torch.manual_seed(0)
    encoder = build_model("momkd", Dims(dim_in=4), "code", {"dim": 8}).double().eval().encoder
    x = torch.randn(5, 4).double()
    with torch.no_grad():
        base = encoder(x, lists)
        influence = torch.zeros(5, 5, dtype=torch.int64)
        for j in range(5):
            moved = x.clone()
            moved[j] += 1
            influence[j] = (encoder(moved, lists) - base).abs().amax(dim=1) > 0
    name = "knn.influence[j][i]=1 if changing node j changes node i (2 layers)"
    assert influence.tolist() == GOLDEN[name]
