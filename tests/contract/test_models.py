"""What every model of the table promises, and what each build of MoMKD does."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from momkd.errors import ConfigError
from momkd.models.table import MODELS, build_model, resolve_options
from momkd.nn.graph_attention import choose_kernels
from momkd.types import Bag, Dims, Sample, SampleKey

DIM, N_GENES = 12, 10
DIMS = Dims(dim_in=DIM, n_classes=2, n_genes=N_GENES)
SIZES = (1, 2, 5, 6, 8, 9, 50, 2_000)

# widths that keep a model of many parts quick; the published ones stand in the parity tests
SMALL = {
    "wikg": {"dim": 32},
    "dtfd_mil": {"dim": 32, "dim_attention": 16},
    "g_hanet": {"dim": 32, "dim_hidden": 16, "dim_attention": 16, "dim_token": 8},
    "transmil": {"dim": 32, "n_landmarks": 16},
    "mkd": {"dim": 24, "dim_attention": 16, "dim_fusion": 6},
    "tdc": {"dim": 32, "dim_attention": 16, "dim_feature": 8, "teacher": {"epochs": 2}},
}
# every model with every preset, and each way a model can be built that changes its equations
KINDS = [(name, preset, {}) for name, cls in MODELS.items() for preset in cls.presets or [None]]
KINDS += [("momkd", "paper", {"memory_update": way}) for way in ("ema", "fixed")]
KINDS += [("abmil", None, {"gated": False}), ("wikg", None, {"score": "product"})]
KINDS += [("dtfd_mil", None, {"distil": way}) for way in ("MaxS", "MaxMinS", "MAS")]
KINDS += [("wikg", None, {"readout": readout}) for readout in ("mean", "max")]
# the default kernels are this machine's best; everything must hold on the plain ones too
KINDS += [("momkd", preset, {"kernels": "torch"}) for preset in ("paper", "code")]
IDS = ["-".join([name, preset or "", *map(str, extra.values())]) for name, preset, extra in KINDS]
# loss terms of a slide without RNA, and of RNA without a slide; else the classifier's alone
TERMS_WITHOUT = {
    "momkd": ({"ce", "memory", "align_wsi"}, {"align_omics", "reconstruction"}),
    "tdc": ({"ce", "kl_mean", "contrast_mean"}, set()),
    "mkd": ({"ce"}, {"ce_rna"}),
}
# what trains the classifier, where that is not the cross-entropy of its logits alone
CLASSIFIER_TERMS = {"dsmil": {"bag", "instance"}, "dtfd_mil": {"tier_1", "tier_2"}}
SHIFTS = ("score.bias", "readout.2.bias")
# terms that are statistics of the pairs of a batch, no mean over its samples
WINDOW_TERMS = {"mkd": {"relations", "divergence", "alignment", "orthogonality"}}
every_model = pytest.mark.parametrize("kind", KINDS, ids=IDS)


def make_bag(n_tiles: int, seed: int = 0, k: int = 8) -> Bag:
    generator = torch.Generator().manual_seed(1000 * n_tiles + seed)
    places = torch.rand(n_tiles, 2, generator=generator)
    distances = torch.cdist(places, places).fill_diagonal_(torch.inf)
    near = torch.full((n_tiles, k), -1)
    n_near = min(k, n_tiles - 1)
    near[:, :n_near] = distances.topk(n_near, largest=False).indices
    return Bag(
        slide_id=f"slide-{n_tiles}-{seed}",
        embeddings=torch.randn(n_tiles, DIM, generator=generator),
        neighbours=near.int(),
    )


def make_sample(n_tiles: int | None, label: int, *, rna: bool = True, seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    return Sample(
        case_id=f"case-{n_tiles}-{label}-{seed}",
        label=label,
        bag=None if n_tiles is None else make_bag(n_tiles, seed),
        rna=torch.randn(N_GENES, generator=generator) if rna else None,
    )


MIXED = [
    make_sample(9, 1),
    make_sample(1, 0),
    make_sample(50, 0, rna=False),
    make_sample(None, 1),
]


class Samples:
    """A source of samples in memory."""

    wait_s = 0.0

    def __init__(self, samples):
        self.samples = samples
        self.keys = [
            SampleKey(
                case_id=s.case_id,
                slide_id=None if s.bag is None else s.bag.slide_id,
                label=s.label,
                has_rna=s.rna is not None,
            )
            for s in samples
        ]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    def rna(self, index):
        return self.samples[index].rna

    def iterate(self, indices):
        for index in indices:
            yield self[index]


def make_model(kind, *, dims: Dims = DIMS):
    """Build a small model, started on a few samples, those of ``MIXED`` among them."""
    torch.manual_seed(0)
    model = build(kind, dims)
    train = [make_sample(20 + i, i % 2, seed=i) for i in range(6)] + [make_sample(None, 0)]
    model.prepare(Samples([*train, *MIXED]))
    return model


def build(kind, dims: Dims):
    name, preset, extra = kind
    options = {key: value for key, value in extra.items() if key != "kernels"}
    model = build_model(name, dims, preset, SMALL.get(name, {}) | options)
    model.use_kernels(choose_kernels(extra.get("kernels", "auto")))
    return model


def flat_state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_state(before, model, *, but: Collection[str] = ()) -> bool:
    after = model.state_dict()
    same = [torch.equal(before[k], after[k]) for k in after if k.rpartition(".")[0] not in but]
    return before.keys() == after.keys() and all(same)


@every_model
@pytest.mark.parametrize("n_tiles", SIZES)
def test_forward_is_pure_and_its_attention_a_distribution(kind, n_tiles):
    model, bag = make_model(kind).eval(), make_bag(n_tiles)
    before, generator = flat_state(model), torch.get_rng_state()
    with torch.no_grad():
        output, again = model(bag), model(bag)
    assert output.logits.shape == (2,)
    assert output.attention.shape == (n_tiles,)
    assert bool((output.attention >= 0).all())
    assert float(output.attention.sum()) == pytest.approx(1, abs=1e-6)
    assert bool(output.logits.isfinite().all())
    assert bool(output.embedding.isfinite().all())
    assert torch.equal(output.logits, again.logits)
    assert torch.equal(output.attention, again.attention)
    assert same_state(before, model)
    assert torch.equal(generator, torch.get_rng_state())
    if n_tiles == 1:
        assert float(output.attention) == 1


@every_model
@pytest.mark.parametrize("n_tiles", SIZES)
def test_order_of_tiles_does_not_matter(kind, n_tiles):
    model, bag = make_model(kind).eval(), make_bag(n_tiles)
    if model.order_matters:
        pytest.skip(f"{kind[0]} depends on the order of tiles; a bag is in raster order")
    order = torch.randperm(n_tiles, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(n_tiles)
    near = bag.neighbours.long()[order]
    near = torch.where(near < 0, near, place[near.clamp(min=0)]).int()
    shuffled = replace(bag, embeddings=bag.embeddings[order], neighbours=near)
    with torch.no_grad():
        output, moved = model(bag), model(shuffled)
    torch.testing.assert_close(moved.logits, output.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.attention, output.attention[order], atol=1e-6, rtol=0)


@every_model
def test_packed_equals_single(kind):
    model = make_model(kind).eval()
    bags = [make_bag(n, seed) for seed, n in enumerate((9, 1, 50, 2, 500))]
    with torch.no_grad():
        packed = model.forward_packed(bags)
        for bag, output in zip(bags, packed, strict=True):
            alone = model(bag)
            torch.testing.assert_close(output.logits, alone.logits, atol=1e-6, rtol=0)
            torch.testing.assert_close(output.attention, alone.attention, atol=1e-6, rtol=0)
            # its entries reach 3, where float32 resolves 2e-7
            torch.testing.assert_close(output.embedding, alone.embedding, atol=3e-6, rtol=0)


@every_model
def test_batch_terms_are_means_over_the_samples_that_feed_them(kind):
    model = make_model(kind).double().eval()
    model.after_step(model.losses(MIXED))  # what a first batch sets is set
    together = model.losses(MIXED).terms
    apart = [(model.losses([sample]).terms, sample) for sample in MIXED]
    for name, term in together.items():
        if name in WINDOW_TERMS.get(kind[0], ()):
            assert all(name not in terms for terms, _ in apart)
            continue
        feeds = [
            terms[name]
            for terms, sample in apart
            # what keeps MoMKD's memory apart is there even where no tile feeds the term
            if name in terms and (name != "memory" or sample.bag is not None)
        ]
        torch.testing.assert_close(term, torch.stack(feeds).mean(), atol=1e-9, rtol=1e-9)


@every_model
def test_every_trainable_parameter_gets_a_gradient(kind):
    model = make_model(kind).train()
    losses = model.losses(MIXED)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if trainable:
        losses.total.backward()
    for name, parameter in trainable.items():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        # a softmax ignores a shift of all scores: the true gradient of such a bias is 0
        assert name.endswith(SHIFTS) or bool(parameter.grad.any()), name
    assert (not trainable) == (kind[0] == "mean_logistic")


@every_model
def test_losses_change_nothing(kind):
    model = make_model(kind).train()
    before = flat_state(model)
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm1d)]
    model.losses(MIXED)
    assert same_state(before, model, but=norms)  # their running statistics follow every batch


@every_model
@pytest.mark.parametrize("label", [0, 1])
def test_a_batch_of_one_class_is_finite(kind, label):
    model = make_model(kind).train()
    losses = model.losses([make_sample(n, label) for n in (1, 9)])
    assert bool(losses.total.isfinite())
    model.after_step(losses)
    assert all(bool(t.isfinite().all()) for t in model.state_dict().values())


@every_model
def test_missing_modalities(kind):
    model = make_model(kind).train()
    classifier = CLASSIFIER_TERMS.get(kind[0], {"ce"})
    slide_only, rna_only = TERMS_WITHOUT.get(kind[0], (classifier, set()))
    if kind[:2] == ("momkd", "plus"):
        slide_only, rna_only = {"ce", "memory"}, set()
    if kind[:2] == ("momkd", "paper"):
        rna_only = rna_only | {"memory"}
    assert set(model.losses([make_sample(9, 1, rna=False)]).terms) == slide_only
    assert set(model.losses([make_sample(None, 1)]).terms) == rna_only


@every_model
def test_training_branch_and_serving_branch_agree(kind):
    """What trains the classifier is what serves, and RNA does not reach it."""
    model, sample = make_model(kind).eval(), make_sample(9, 1)
    with torch.no_grad():
        terms = [
            model.losses([replace(sample, rna=rna)]).terms
            for rna in (None, sample.rna, 100 * sample.rna)
        ]
        wanted = torch.nn.functional.cross_entropy(model(sample.bag).logits, torch.tensor(1))
    for name in CLASSIFIER_TERMS.get(kind[0], {"ce"}):
        assert torch.equal(terms[0][name], terms[1][name])
        assert torch.equal(terms[0][name], terms[2][name])
    if "ce" in terms[0]:
        weight = 0.5 if kind[0] == "momkd" else 1
        torch.testing.assert_close(terms[0]["ce"], weight * wanted, atol=1e-7, rtol=0)


@every_model
def test_serving_state_alone_gives_the_same_bits(kind, tmp_path):
    model, bag = make_model(kind).eval(), make_bag(50)
    output = model(bag)
    served = build(kind, replace(DIMS, n_genes=None)).eval()
    served.load_state_dict(dict(model.serving_state()))
    assert torch.equal(served(bag).logits, output.logits)
    parts = [model.get_submodule(name) for name in model.training_only if hasattr(model, name)]
    assert bool(parts) == bool(model.training_only)
    for part in parts:
        for tensor in [*part.parameters(), *(b for b in part.buffers() if b.is_floating_point())]:
            torch.nn.init.constant_(tensor, torch.nan)
    poisoned = model(bag)
    assert torch.equal(poisoned.logits, output.logits)
    assert torch.equal(poisoned.attention, output.attention)


@every_model
def test_state_survives_saving_to_the_bit(kind, tmp_path):
    model, bag = make_model(kind).eval(), make_bag(50)
    model.after_step(model.losses(MIXED))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(99)
    other = build(kind, DIMS).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same_state(flat_state(model), other)
    assert torch.equal(other(bag).logits, model(bag).logits)


@every_model
def test_half_precision_embeddings(kind):
    model, bag = make_model(kind), make_bag(50)
    half = replace(bag, embeddings=bag.embeddings.half())
    wide = replace(bag, embeddings=bag.embeddings.half().float())
    assert torch.equal(model.eval()(half).logits, model(wide).logits)
    sample = Sample(case_id="c", label=1, bag=half, rna=torch.zeros(N_GENES))
    assert bool(model.train().losses([sample]).total.isfinite())


@every_model
def test_mixed_precision_step_is_finite_and_near(kind):
    model = make_model(kind).eval()
    exact = model.losses(MIXED).total
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(MIXED)
        rough = losses.total
    model.after_step(losses)
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)


@every_model
def test_a_bag_without_neighbours(kind):
    model, bag = make_model(kind).eval(), replace(make_bag(5), neighbours=None)
    if not model.needs_coordinates:
        assert bool(model(bag).logits.isfinite().all())
        return
    with pytest.raises(ValueError, match=r"slide-5-0.*neighbours"):
        model(bag)


@every_model
def test_start_depends_on_seed_and_samples_alone(kind):
    first, second = make_model(kind), make_model(kind)
    assert same_state(flat_state(first), second)


def test_a_model_built_to_predict_refuses_to_learn():
    model = build_model("momkd", Dims(dim_in=DIM))
    with pytest.raises(ValueError, match="n_genes"):
        model.losses([make_sample(5, 1)])
    assert "cos_class_means" in model.diagnostics()


def test_duplicated_tiles_without_graph_change_nothing():
    model, bag = make_model(("abmil", None, {})).eval(), make_bag(9)
    twice = replace(bag, embeddings=bag.embeddings.repeat(2, 1), neighbours=None)
    torch.testing.assert_close(model(twice).logits, model(bag).logits, atol=1e-6, rtol=0)


def test_slots_and_classes_have_no_order():
    model, bag = make_model(("momkd", "paper", {})).double().eval(), make_bag(9)
    with torch.no_grad():
        model.head.weight[0] = -model.head.weight[1]
        model.head.bias.zero_()
        output = model(bag)
        model.memory.slots.copy_(model.memory.slots[:, torch.randperm(16)])
        torch.testing.assert_close(model(bag).logits, output.logits)
        sample = make_sample(9, 1)
        before = model.losses([sample]).terms
        model.memory.slots.copy_(model.memory.slots.flip(0))
        after = model.losses([replace(sample, label=0)]).terms
    torch.testing.assert_close(after["align_omics"], before["align_omics"])


def test_mean_logistic_is_scikit_learns():
    train = [make_sample(20 + i, i % 2, seed=i) for i in range(12)]
    means = np.stack([s.bag.embeddings.double().mean(0).numpy() for s in train])
    scaler = StandardScaler().fit(means)
    for options in ({}, {"C": 0.1}, {"balanced": True}):
        weights = "balanced" if options.get("balanced") else None
        oracle = LogisticRegression(C=options.get("C", 1.0), class_weight=weights, tol=1e-10)
        oracle.fit(scaler.transform(means), [s.label for s in train])
        model = build_model("mean_logistic", DIMS, options=options).double()
        model.prepare(Samples([*train, make_sample(None, 1)]))
        bag = make_bag(50)
        logits = model(bag).logits
        wanted = oracle.decision_function(scaler.transform(bag.embeddings.double().mean(0)[None]))
        assert float(logits[1] - logits[0]) == pytest.approx(wanted[0], abs=1e-4)
        assert model(bag).attention.tolist() == [1 / 50] * 50


def test_refusals_of_the_table():
    with pytest.raises(ConfigError, match=r"G05.*momdk.*did you mean momkd.*abmil"):
        build_model("momdk", DIMS)
    with pytest.raises(ConfigError, match=r"G06.*'papr'.*paper.*code"):
        build_model("momkd", DIMS, "papr")
    with pytest.raises(ConfigError, match=r"G06.*no presets"):
        build_model("abmil", DIMS, "paper")
    with pytest.raises(ConfigError, match=r"G03.*n_slot.*did you mean n_slots"):
        build_model("momkd", DIMS, None, {"n_slot": 3})
    with pytest.raises(ConfigError, match=r"G04.*weights.ce") as refusal:
        build_model("momkd", DIMS, None, {"weights": {"ce": -1}, "n_slots": 0})
    assert len(refusal.value.problems) == 2
    with pytest.raises(ConfigError, match=r"G04.*multiple of n_heads"):
        build_model("momkd", DIMS, None, {"dim": 7})


def test_refusals_of_the_models_own():
    with pytest.raises(ConfigError, match=r"G04.*g_hanet.*4 genes for 6 groups"):
        build_model("g_hanet", Dims(dim_in=DIM, n_genes=4))
    with pytest.raises(ConfigError, match=r"G04.*g_hanet.*add up to 6.*10 genes"):
        build_model("g_hanet", DIMS, options={"group_sizes": [1] * 6})
    with pytest.raises(ConfigError, match=r"G04.*2 groups, not 6"):
        build_model("g_hanet", DIMS, options={"group_sizes": [5, 5]})
    for name in ("g_hanet", "transmil"):
        with pytest.raises(ConfigError, match=r"G04.*multiple of n_heads"):
            build_model(name, DIMS, options={"dim": 33})


def test_options_lie_over_the_preset_key_by_key():
    options = resolve_options("momkd", "code", {"weights": {"ce": 1.0}, "dim_shared": 32})
    assert options.weights.ce == 1.0
    assert options.weights.reconstruction == 0.05
    assert options.weights.align_wsi == 0.2
    assert (options.dim, options.dim_shared) == (512, 32)
    paper = resolve_options("momkd")
    assert paper == resolve_options("momkd", "paper")
    published = {
        "ce": 0.5, "memory": 0.1, "align_wsi": 0.2, "align_omics": 0.05, "reconstruction": 0.01,
    }  # fmt: skip
    assert published.items() <= paper.weights.model_dump().items()
    again = resolve_options("momkd", "code", options.model_dump(mode="json"))
    assert again == options
