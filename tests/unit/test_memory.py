"""The memory: hand values, invariants, its start and the ways it moves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from momkd.models.table import build_model
from momkd.nn.alignment import class_evidence, class_margin, class_similarity, margin_alignment
from momkd.nn.assignment import Assignment, SharedAssignments, nearest_slots
from momkd.nn.memory import (
    ClassMemory,
    SlotUsage,
    orthogonality,
    quantisation,
    spherical_kmeans,
)
from momkd.nn.pooling import segment_softmax
from momkd.types import Bag, Dims, Sample, SampleKey

LONG = torch.int64


def unit(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def align(delta: float, label: int) -> tuple[float, float]:
    delta = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
    loss = margin_alignment(delta, torch.tensor([label]), scale=20.0, margin=0.3)
    loss.sum().backward()
    return float(loss.detach()), float(delta.grad)


def test_alignment_by_hand():
    assert align(0.3, 1)[0] == pytest.approx(0.6931471806, abs=1e-10)
    assert align(0.3, 1)[1] == pytest.approx(-10, abs=1e-12)
    assert align(-0.3, 0)[1] == pytest.approx(10, abs=1e-12)
    assert align(0.0, 1)[0] == pytest.approx(6.0024756851, abs=1e-10)
    assert align(2.0, 1)[0] == pytest.approx(1.7139e-15, rel=1e-4)
    assert align(-2.0, 1)[0] == pytest.approx(46, abs=1e-12)
    assert align(-0.2, 1)[0] == pytest.approx(10.00004540, abs=1e-8)
    assert align(-0.2, 0)[0] == pytest.approx(2.12692801, abs=1e-8)


def test_attention_by_hand():
    scores = torch.tensor([1.0, 0.0], dtype=torch.float64) / 0.2
    alone = segment_softmax(scores, torch.zeros(2, dtype=LONG), 1)
    assert float(alone[0]) == pytest.approx(0.9933071491, abs=1e-10)
    both = segment_softmax(scores.repeat(2), torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(both, alone.repeat(2))


def test_orthogonality_by_hand():
    def spread(rows):
        return float(orthogonality(torch.tensor([rows], dtype=torch.float64)))

    assert spread([[1.0, 0.0], [0.0, 1.0]]) == 0
    assert spread([[1.0, 0.0]] * 5) == 5 * 4
    assert spread([[1.0, 0.0], [-1.0, 0.0]]) == 2
    assert spread([[0.6, 0.8]]) == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_slots=st.integers(1, 20), dim=st.integers(2, 30))
def test_ranges_and_symmetries(seed, n_slots, dim):
    torch.manual_seed(seed)
    points, slots = unit(4, dim), unit(2, n_slots, dim)
    slots[1, 0] = points[0]  # reach the upper end
    labels = torch.tensor([0, 1, 0, 1])
    offset = math.log(n_slots) / 5
    phi = class_similarity(points, slots, 5.0)
    assert bool((phi >= -1 + offset - 1e-6).all())
    assert bool((phi <= 1 + offset + 1e-6).all())
    delta = class_margin(points, slots, 5.0)
    assert bool((delta.abs() <= 2 + 1e-6).all())
    swapped = class_margin(points, slots.flip(0), 5.0)
    torch.testing.assert_close(
        margin_alignment(delta, labels, scale=20.0, margin=0.3),
        margin_alignment(swapped, 1 - labels, scale=20.0, margin=0.3),
    )
    order = torch.randperm(n_slots)
    torch.testing.assert_close(class_margin(points, slots[:, order], 5.0), delta)
    torch.testing.assert_close(
        class_evidence(points, slots[:, order]), class_evidence(points, slots)
    )
    nearest = nearest_slots(points, labels, slots)
    distances = quantisation(points, slots, nearest)
    cosines = torch.einsum("nd,nkd->nk", points, slots[labels])
    torch.testing.assert_close(distances, 2 - 2 * cosines.amax(dim=1))
    assert bool(((distances >= -1e-12) & (distances <= 4 + 1e-12)).all())


def test_nearest_is_euclidean_and_of_the_own_class():
    torch.manual_seed(0)
    points, slots, labels = unit(50, 3), 2 * torch.randn(2, 4, 3).double(), torch.arange(50) % 2
    found = nearest_slots(points, labels, slots)
    for point, label, slot in zip(points, labels.tolist(), found.tolist(), strict=True):
        by_hand = [float((point - c).square().sum()) for c in slots[label]]
        assert slot == 4 * label + by_hand.index(min(by_hand))


def test_quantisation_spares_the_slots():
    points, slots = unit(6, 3).requires_grad_(), unit(2, 4, 3).requires_grad_()
    labels = torch.tensor([0, 1] * 3)
    quantisation(points, slots, nearest_slots(points, labels, slots)).sum().backward()
    assert slots.grad is None
    assert points.grad is not None


def test_average_by_hand():
    torch.manual_seed(1)
    memory = ClassMemory(2, 3, 4, learned=False).double()
    before = memory.slots.clone()
    tiles, rna = unit(5, 4), unit(2, 4)
    parts = [
        Assignment(
            points=tiles,
            labels=torch.tensor([0, 0, 0, 1, 1]),
            slots=torch.tensor([0, 0, 2, 4, 4]),
        ),
        Assignment(points=rna, labels=torch.tensor([0, 1]), slots=torch.tensor([0, 5])),
    ]
    memory.move(SharedAssignments(parts), 0.9)
    means = {
        0: ((tiles[0] + tiles[1]) / 2 + rna[0]) / 2,  # each modality counts once
        2: tiles[2],
        4: (tiles[3] + tiles[4]) / 2,
        5: rna[1],
    }
    for slot in range(6):
        old = before.flatten(0, 1)[slot]
        mean = means.get(slot)
        wanted = old if mean is None else normalize(0.9 * old + 0.1 * mean, dim=0)
        torch.testing.assert_close(memory.slots.flatten(0, 1)[slot], wanted)


def test_usage_figures_by_hand():
    usage = SlotUsage(2, 4)
    points = torch.zeros(40, 2)
    slots = torch.tensor([0] * 20 + [1] * 19 + [2])
    part = Assignment(points=points, labels=torch.zeros(40, dtype=LONG), slots=slots)
    usage.count(SharedAssignments([part]))
    figures = usage.take()
    assert figures["active_ratio_0"] == 0.75  # slot 2 has exactly a tenth of an even share
    shares = [20 / 40, 19 / 40, 1 / 40]
    wanted = math.exp(-sum(s * math.log(s) for s in shares))
    assert figures["perplexity_0"] == pytest.approx(wanted)
    assert math.isnan(figures["active_ratio_1"])
    assert usage.idle_steps.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert math.isnan(usage.take()["perplexity_0"])  # counted anew


def test_dead_slots_are_revived_on_points_of_their_class():
    def run():
        torch.manual_seed(7)
        memory, usage = ClassMemory(2, 3, 4, learned=False), SlotUsage(2, 3)
        points = normalize(torch.randn(8, 4), dim=1)
        part = Assignment(
            points=points, labels=torch.ones(8, dtype=LONG), slots=torch.full((8,), 3)
        )
        before = memory.slots.clone()
        for step in range(5):
            usage.count(SharedAssignments([part]))
            usage.revive(memory, SharedAssignments([part]), 5)
            if step < 4:
                assert torch.equal(memory.slots, before)
        return memory.slots, before, points, usage

    slots, before, points, usage = run()
    assert torch.equal(slots[0], before[0])
    assert torch.equal(slots[1, 0], before[1, 0])
    for slot in (slots[1, 1], slots[1, 2]):
        assert any(torch.equal(slot, point) for point in points)
    assert torch.equal(run()[0], slots)
    assert usage.take()["revived_1"] == 2


def test_kmeans_finds_separate_bundles():
    torch.manual_seed(0)
    axes = torch.eye(6)[:4]
    points = normalize(axes.repeat(100, 1) + 0.05 * torch.randn(400, 6), dim=1)
    centres, n_distinct = spherical_kmeans(points, 4, 20)
    assert n_distinct == 400
    best = (axes @ centres.T).max(dim=1)
    assert sorted(best.indices.tolist()) == [0, 1, 2, 3]
    assert float(best.values.min()) > 0.99
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("n_distinct", [1, 3, 16])
def test_kmeans_with_too_few_points(n_distinct):
    torch.manual_seed(0)
    seeds = normalize(torch.randn(n_distinct, 5), dim=1)
    centres, found = spherical_kmeans(seeds.repeat(4, 1), 16, 20)
    assert found == n_distinct
    assert len(torch.unique(centres, dim=0)) == 16
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(16))
    assert float((centres @ seeds.T).amax(dim=0).min()) > 1 - 1e-6
    assert float((centres @ seeds.T).amax(dim=1).min()) > 0.999


class Samples:
    """Training samples that remember what was read."""

    wait_s = 0.0

    def __init__(self, samples):
        self.samples, self.was_read = samples, []
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
        self.was_read.append(index)
        return self.samples[index]

    def rna(self, index):
        return self.samples[index].rna

    def iterate(self, indices):
        for index in indices:
            yield self[index]


def slide(index: int, label: int, n_tiles: int) -> Sample:
    generator = torch.Generator().manual_seed(index)
    bag = Bag(
        slide_id=f"s{index}",
        embeddings=torch.randn(n_tiles, 6, generator=generator),
        neighbours=torch.full((n_tiles, 2), -1).int(),
    )
    return Sample(case_id=f"c{index}", label=label, bag=bag, rna=torch.zeros(3))


SMALL = {"dim": 8, "dim_shared": 5, "dim_rna": 4, "dim_rna_hidden": 4, "n_slots": 4}
DIMS = Dims(dim_in=6, n_genes=3)


def momkd(**options):
    torch.manual_seed(0)
    return build_model("momkd", DIMS, None, {**SMALL, **options})


def test_start_reads_no_more_than_it_needs_and_repeats():
    samples = [slide(i, i % 2, 40) for i in range(30)]
    samples.append(Sample(case_id="rna", label=1, rna=torch.zeros(3)))
    start = {"tiles_per_class": 50, "slides_per_class": 5}
    memories = []
    for training in (True, False):
        model, source = momkd(start=start).train(training), Samples(samples)
        torch.manual_seed(9)
        model.prepare(source)
        assert model.training is training
        assert sorted(samples[i].label for i in source.was_read) == [0] * 5 + [1] * 5
        assert model.start_notes == ()
        memories.append(model.memory.slots)
    assert torch.equal(*memories)
    torch.testing.assert_close(memories[0].norm(dim=2), torch.ones(2, 4))
    model = momkd(start=start)
    torch.manual_seed(10)
    model.prepare(Samples(samples))
    assert not torch.equal(model.memory.slots, memories[0])


def test_start_stands_on_tiles_of_the_class():
    model = momkd(n_slots=2, start={"tiles_per_class": 2})
    samples = [slide(0, 0, 2), slide(1, 1, 2)]
    model.prepare(Samples(samples))
    model.eval()
    for label, sample in enumerate(samples):
        points = model._read([sample.bag], model.memory.unit()).points
        best = (model.memory.slots[label] @ points.T).amax(dim=1)
        torch.testing.assert_close(best, torch.ones(2))


def test_start_says_what_it_had_to_make_do_with():
    model = momkd()
    model.prepare(Samples([slide(0, 1, 3), Sample(case_id="r", label=0, rna=torch.zeros(3))]))
    first, second = model.start_notes
    assert "class 0" in first
    assert "3 distinct tiles for 4 slots" in second
    torch.testing.assert_close(model.memory.slots.norm(dim=2), torch.ones(2, 4))


def train(model, n_steps: int = 12, rate: float = 0.05):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0)
    batch = [slide(0, 0, 9), slide(1, 1, 30), Sample(case_id="r", label=1, rna=torch.ones(3))]
    for step in range(n_steps):
        optimiser.zero_grad()
        losses = model.losses(batch[step % 3 :])
        losses.total.backward()
        optimiser.step()
        model.after_step(losses)
        norms = model.memory.slots.detach().norm(dim=2)
        if model.options.renormalise:
            torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-6, rtol=0)
    return model


def test_ways_to_move():
    starts, ends = {}, {}
    for update in ("learned", "ema", "fixed"):
        model = momkd(memory_update=update, ema_momentum=0.9)
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        assert ("memory.slots" in trainable) == (update == "learned")
        assert "memory.slots" in model.state_dict()
        starts[update] = model.memory.slots.detach().clone()
        ends[update] = train(model).memory.slots.detach().clone()
    assert torch.equal(starts["fixed"], ends["fixed"])
    for update in ("learned", "ema"):
        assert not torch.allclose(starts[update], ends[update], atol=1e-3)


def test_rna_alone_moves_the_memory():
    batch = [Sample(case_id="r", label=1, rna=torch.ones(3))]
    model = momkd()
    losses = model.losses(batch)
    assert set(losses.terms) == {"align_omics", "reconstruction", "memory"}
    losses.terms["align_omics"].backward()
    assert bool(model.memory.slots.grad.any())
    model = momkd(memory_update="ema", ema_momentum=0.5)
    before = model.memory.slots.clone()
    model.after_step(model.losses(batch))
    moved = (model.memory.slots != before).any(dim=2)
    assert moved.sum(dim=1).tolist() == [0, 1]


def test_same_seed_same_bytes():
    def run(seed):
        model = momkd(memory_update="ema", revive_after=2)
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in train(model, 6).state_dict().values()])

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_diagnostics_and_decay():
    model = train(momkd(), 3)
    figures = model.diagnostics()
    assert set(figures) == {
        "cos_class_means", "temperature",
        "active_ratio_0", "active_ratio_1", "perplexity_0", "perplexity_1",
        "revived_0", "revived_1", "collapse_classes",
    }  # fmt: skip
    assert 0 < figures["active_ratio_0"] <= 1
    assert 1 <= figures["perplexity_1"] <= 4
    means = normalize(model.memory.slots.detach().mean(dim=1), dim=1)
    assert figures["cos_class_means"] == pytest.approx(float(means[0] @ means[1]), abs=1e-6)
    decayed, spared = model.decay_groups()
    assert any(p is model.memory.slots for p in spared)
    assert not any(p is model.memory.slots for p in decayed)
    assert len(decayed) + len(spared) == len(list(model.parameters()))
    everything, nothing = momkd(decay="all").decay_groups()
    assert len(everything) == len(list(model.parameters()))
    assert nothing == []


def test_collapse_shows_in_the_diagnostics():
    model = train(momkd(), 3)
    healthy = model.diagnostics()
    assert healthy["collapse_classes"] == 0
    slots = model.memory.slots.detach().clone()
    with torch.no_grad():
        model.memory.slots.copy_(slots[:1].flip(1).expand(2, -1, -1))
    assert model.diagnostics()["collapse_classes"] == 1
    with torch.no_grad():
        model.memory.slots[1, 0] = -slots[0, 0]  # one slot of its own is enough to tell
    assert model.diagnostics()["collapse_classes"] == 0
