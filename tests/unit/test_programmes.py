"""Programmes of expression, and MoMKD taught by them."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from momkd.errors import ConfigError
from momkd.models.table import build_model, resolve_options
from momkd.nn.memory import ClassMemory
from momkd.nn.programmes import ProgrammePoles, Programmes, logistic_ridge
from momkd.types import Bag, Dims, Sample
from tests.contract.test_models import Samples

N_GENES, N_CASES = 60, 200


def hidden_programmes(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw expression that two programmes make up, the weaker of which tells the label."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N_CASES, 2, generator=generator)
    loadings = torch.randn(2, N_GENES, generator=generator) * torch.tensor([[2.0], [1.0]])
    noise = 0.1 * torch.randn(N_CASES, N_GENES, generator=generator)
    labels = (hidden[:, 1] + 0.3 * torch.randn(N_CASES, generator=generator) > 0).long()
    return hidden, hidden @ loadings + noise, labels


def test_logistic_ridge_is_that_of_scikit_learn():
    _, rna, labels = hidden_programmes()
    x = rna[:, :7].double()
    weights, bias = logistic_ridge(x, labels.double(), 10.0)
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(x.numpy(), labels.numpy())
    torch.testing.assert_close(weights, torch.tensor(theirs.coef_[0]), atol=1e-6, rtol=0)
    assert float(bias) == pytest.approx(float(theirs.intercept_[0]), abs=1e-6)


def test_programmes_are_found_turned_and_weighed():
    hidden, rna, labels = hidden_programmes()
    programmes = Programmes(N_GENES, 2)
    assert programmes.start(rna, labels) == 2
    found, positive = programmes(rna)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=0), torch.ones(2), atol=0.01, rtol=0)
    # the stronger programme comes first; the one of the label weighs nearly all, and points at it
    likeness = torch.corrcoef(torch.cat([found.T, hidden.T]))[:2, 2:]
    assert float(likeness[1, 1]) > 0.95
    assert abs(float(likeness[0, 0])) > 0.95
    assert float(programmes.relevance.mean()) == pytest.approx(1)
    assert float(programmes.relevance[1]) > 1.5
    assert float(positive[labels == 1].mean()) > 0.7 > 0.3 > float(positive[labels == 0].mean())


def test_a_new_case_is_read_with_what_training_cases_taught():
    _, rna, labels = hidden_programmes()
    programmes = Programmes(N_GENES, 2)
    programmes.start(rna, labels)
    alone, _ = programmes(rna[:1])
    together, _ = programmes(rna)
    torch.testing.assert_close(alone, together[:1])


@pytest.mark.parametrize("n_cases", [2, 3])
def test_fewer_cases_than_programmes_leave_some_empty(n_cases):
    _, rna, labels = hidden_programmes()
    programmes = Programmes(N_GENES, 8)
    assert programmes.start(rna[:n_cases], labels[:n_cases]) == n_cases - 1
    found, positive = programmes(rna)
    assert bool((found[:, n_cases:] == 0).all())
    assert bool(found.isfinite().all() and positive.isfinite().all())


def test_one_class_alone_gives_finite_odds():
    _, rna, _ = hidden_programmes()
    programmes = Programmes(N_GENES, 2)
    programmes.start(rna, torch.ones(N_CASES, dtype=torch.int64))
    assert all(bool(part.isfinite().all()) for part in programmes(rna))


def test_poles_start_opposite_and_read_an_axis():
    memory = ClassMemory(2, 3, 5, learned=True)
    memory.start_poles()
    point = torch.tensor([[0.5, -1.0, 2.0, 7.0, 7.0]])
    torch.testing.assert_close(ProgrammePoles(3)(point, memory.unit()), point[:, :3])
    with pytest.raises(ValueError, match="4 pairs of poles"):
        ClassMemory(2, 4, 3, learned=True).start_poles()


def samples_of(seed: int = 0) -> list[Sample]:
    _, rna, labels = hidden_programmes(seed)
    generator = torch.Generator().manual_seed(seed)
    return [
        Sample(
            case_id=f"case-{i}",
            label=int(labels[i]),
            bag=Bag(
                slide_id=f"slide-{i}",
                embeddings=torch.randn(6, 12, generator=generator),
                neighbours=torch.arange(6)[None].repeat(6, 1).int(),
            ),
            rna=rna[i],
        )
        for i in range(12)
    ]


def plus(**options):
    torch.manual_seed(0)
    model = build_model(
        "momkd", Dims(dim_in=12, n_classes=2, n_genes=N_GENES), "plus", {"n_slots": 2} | options
    )
    return model.train()


GRADIENTS = {
    "ce": {"encoder", "gate", "head"},
    "odds": {"encoder", "gate", "head"},
    "memory": {"memory"},
    "programmes": {"encoder", "gate", "tile_projection", "memory", "programmes"},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_what_each_term_moves(name):
    """The classifier never moves the memory, and RNA has nothing that could move."""
    model, samples = plus(), samples_of()
    model.prepare(Samples(samples))
    if name == "memory":  # at the start the poles of a class are at right angles
        torch.nn.init.normal_(model.memory.slots)
    model.losses(samples).terms[name].backward()
    moved = {
        n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved == GRADIENTS[name]


def test_slides_without_rna_teach_by_their_label_alone():
    model, samples = plus(), samples_of()
    model.prepare(Samples(samples))
    half = [replace(s, rna=None) if i % 2 else s for i, s in enumerate(samples)]
    losses = model.losses(half)
    assert losses.fed == {"ce": 12, "memory": 12, "programmes": 6, "odds": 6}
    alone = model.eval().losses(half[::2])
    torch.testing.assert_close(model.losses(half).terms["programmes"], alone.terms["programmes"])


def test_cases_without_a_slide_shape_the_programmes():
    samples = samples_of()
    with_more = [
        *samples,
        *(replace(s, case_id=f"{s.case_id}-more", bag=None) for s in samples_of(1)),
    ]
    one, other = plus(), plus()
    one.prepare(Samples(samples))
    other.prepare(Samples(with_more))
    assert not torch.allclose(one.programmes.programmes.centre, other.programmes.programmes.centre)


def test_without_rna_it_says_so_and_learns_from_labels():
    model, samples = plus(), [replace(s, rna=None) for s in samples_of()]
    model.prepare(Samples(samples))
    assert model.start_notes == ("no training case has RNA: there are no programmes to teach",)
    assert set(model.losses(samples).terms) == {"ce", "memory"}


def test_rna_lies_where_its_programmes_lie():
    model, samples = plus(), samples_of()
    model.prepare(Samples(samples))
    rna = torch.stack([s.rna for s in samples])
    said, _ = model.programmes.programmes(rna)
    points = model.rna_points(rna)
    torch.testing.assert_close(points[:, :2], normalize(said, dim=1))
    lengths = model.slide_points(torch.randn(3, model.options.dim)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))


@pytest.mark.parametrize(
    "options",
    [{"teaching": "classes"}, {"memory_update": "ema"}, {"n_slots": 64, "dim_shared": 32}],
)
def test_combinations_that_mean_nothing_are_refused(options):
    with pytest.raises(ConfigError, match="programmes"):
        resolve_options("momkd", "plus", options)
