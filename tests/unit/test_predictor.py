import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load, save
from torch import Tensor, nn

from momkd.config import Options
from momkd.errors import IntegrityError, MachineError, ModelError, MomkdError
from momkd.models import table
from momkd.models.base import BagClassifier
from momkd.predictor import (
    Ensemble,
    Predictor,
    fit_embedding_range,
    load_predictor,
    save_predictor,
)
from momkd.serving.card import Card, describe_card, inherited_licence
from momkd.storage import canonical_json, digest_bytes
from momkd.types import Bag, Dims, Output, TileGrid

DIM, TILES, K = 6, 12, 3


class TinyOptions(Options):
    width: int = 4


class Tiny(BagClassifier):
    """Attention over a tile and its nearest neighbour; an RNA side that must not be served."""

    Options: ClassVar[type[Options]] = TinyOptions
    needs_coordinates: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("rna_tower",)

    def __init__(self, dims: Dims, options: TinyOptions) -> None:
        super().__init__(dims, options)
        self.encoder = nn.Linear(dims.dim_in, options.width)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(options.width, dims.n_classes)
        if dims.n_genes is not None:
            self.rna_tower = nn.Linear(dims.n_genes, options.width)

    def forward(self, bag: Bag) -> Output:
        x = bag.embeddings.float()
        near = x[bag.neighbours[:, 0].long().clamp(min=0)]
        tiles = self.dropout(torch.tanh(self.encoder(x + near)))
        attention = torch.softmax(tiles.sum(dim=1), dim=0)
        slide = attention @ tiles
        return Output(logits=3 * self.head(slide), attention=attention, embedding=slide)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.MODELS, "tiny", Tiny)


def make_bag(seed: int = 0, n: int = TILES, dim: int = DIM, **changed: object) -> Bag:
    generator = torch.Generator().manual_seed(seed)
    grid = {"tile_px0": 512.0, "tile_px": 256, "mpp": 0.5, "magnification": 20.0}
    grid |= {"overlap_px": 0, "is_level0": True}
    grid |= {k: changed.pop(k) for k in list(changed) if k in grid}
    coords = np.stack([np.arange(n) * 512, np.zeros(n)], axis=1).astype(np.int64)
    near = torch.full((n, changed.pop("k", K)), -1, dtype=torch.int32)
    near[1:, 0] = torch.arange(n - 1)
    facts = {
        "slide_id": f"slide-{seed}",
        "embeddings": torch.randn(n, dim, generator=generator),
        "grid": TileGrid(slide_id=f"slide-{seed}", coords_px0=coords, **grid),
        "neighbours": near,
        "encoder": "uni_v2",
        "encoder_sha256": "ef" * 32,
    }
    return Bag(**(facts | changed))


def make_card(**changed: object) -> Card:
    facts = {
        "model": "tiny",
        "options": {"width": 4},
        "dims": {"dim_in": DIM},
        "task": "HER2",
        "class_names": ("negative", "positive"),
        "encoder": "uni_v2",
        "encoder_sha256": "ef" * 32,
        "tile_px": 256,
        "overlap_px": 0,
        "magnification": 20.0,
        "mpp": 0.5,
        "neighbours": K,
        "temperature": 1.7,
        "offset": -0.4,
        "thresholds": {"max_f1": 0.42, "sensitivity_95": 0.2},
        "threshold_rule": "max_f1",
        "provenance": {"cohort": "ab" * 32, "fold": 0, "seed": 1, "panel": None},
        "seen_slides": ("cd" * 32,),
    }
    return Card(**(facts | changed))


def make_predictor(seed: int = 0, **changed: object) -> Predictor:
    torch.manual_seed(seed)
    return Predictor(Tiny(Dims(dim_in=DIM, n_genes=9), TinyOptions()), make_card(**changed))


def tamper(folder: Path, weights: bytes | None = None, **card: object) -> None:
    """Change a saved predictor as someone would who also mends the digest."""
    content = json.loads((folder / "config.json").read_text())
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
        content["weights_sha256"] = digest_bytes(weights)
    (folder / "config.json").write_text(canonical_json(content | card))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_predictor(make_predictor(), tmp_path / "predictor")
    return tmp_path / "predictor"


def refused(code: str, kind: type[MomkdError] = ModelError):
    return pytest.raises(kind, match=rf"\[{code}\]")


# --- prediction


def test_probabilities_are_calibrated_logits() -> None:
    one, bag = make_predictor(), make_bag()
    answer = one.predict(bag)
    logits = one.logits(bag).astype(np.float64)
    wanted = 1 / (1 + np.exp(-((logits[1] - logits[0]) / 1.7 - 0.4)))
    assert answer.probabilities[1] == pytest.approx(wanted, abs=1e-12)
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert answer.attention.dtype == np.float32
    assert answer.attention.sum() == pytest.approx(1, abs=1e-6)
    assert answer.class_names == ("negative", "positive")
    assert answer.grid is bag.grid
    assert answer.flags == ()


def test_prediction_is_pure_and_order_free() -> None:
    one, bags = make_predictor(), [make_bag(seed) for seed in range(5)]
    state = torch.get_rng_state()
    first = [one.predict(bag).probabilities for bag in bags]
    one.model.train()  # dropout must not come back
    second = [one.predict(bag).probabilities for bag in reversed(bags)][::-1]
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(p.grad is not None for p in one.model.parameters())
    alone = one.predict(bags[0])
    assert not isinstance(alone.attention, Tensor)


@pytest.mark.parametrize("name", ["momkd", "abmil", "transmil"])
def test_the_number_of_threads_changes_no_probability(name: str) -> None:
    torch.manual_seed(3)
    model = table.build_model(name, Dims(dim_in=DIM, n_genes=20))
    card = make_card(model=name, options=model.options.model_dump(mode="json"))
    one, bags = Predictor(model, card), [make_bag(seed, n=200) for seed in range(3)]
    before = torch.get_num_threads()
    try:
        answers = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            answers.append([one.predict(bag).probabilities for bag in bags])
    finally:
        torch.set_num_threads(before)
    assert np.abs(np.array(answers[0]) - np.array(answers[1])).max() <= 1e-6


def test_weights_of_the_rna_side_change_nothing() -> None:
    one, bag = make_predictor(), make_bag()
    before = one.predict(bag).probabilities
    with torch.no_grad():
        one.model.rna_tower.weight.fill_(float("nan"))
    assert np.array_equal(one.predict(bag).probabilities, before)


def test_prediction_opens_no_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load_predictor(saved)

    def poisoned(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", poisoned)
    monkeypatch.setattr(Path, "open", poisoned)
    assert one.predict(make_bag()).probabilities[1] > 0


def test_serving_loads_no_table_code() -> None:
    code = (
        "import sys, momkd.predictor;"
        "doors = ('h5py', 'momkd.data', 'momkd.training', 'momkd.workflows', 'momkd.simulation');"
        "bad = [m for m in sys.modules if m.startswith(doors)];"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- what does not fit


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"dim": 4}, "C09", "width 4, the predictor expects uni_v2 6"),
        ({"encoder": "conch"}, "P01", "conch"),
        ({"encoder_sha256": "ab" * 32}, "P02", "other weights"),
        ({"tile_px": 224}, "P03", "224 px"),
        ({"overlap_px": 64}, "P03", "overlap by 64 px"),
        ({"mpp": 0.53}, "P03", "0.53 um/px"),
        ({"magnification": 40.0}, "P03", "40 x"),
        ({"k": 5}, "P03", "graph of 5"),
        ({"neighbours": None, "grid": None}, "F16", "coordinates"),
    ],
)
def test_a_bag_that_does_not_fit_is_refused(changed: dict, code: str, words: str) -> None:
    one, bag = make_predictor(), make_bag(**changed)
    for door in (one.require_fit, one.predict, Ensemble([one]).predict):
        with refused(code) as caught:
            door(bag)
        assert words in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        make_predictor().require_fit(make_bag(dim=4, encoder="conch", mpp=1.0, k=1))
    assert [p.code for p in caught.value.problems] == ["C09", "P01", "P03", "P03"]


@pytest.mark.parametrize(
    ("changed", "flags"),
    [
        ({"encoder": None}, ("encoder unverified",)),
        ({"encoder_sha256": None}, ("encoder weights unverified",)),
        ({"overlap_px": 10}, ("overlap 10 px off",)),
        ({"overlap_px": None}, ()),
        ({"is_level0": False}, ("places not in level-0 px",)),
        ({"encoder": "UNI_v2"}, ()),
        ({"mpp": 0.51}, ("mpp 2.0% off",)),
        ({"mpp": 0.501}, ()),
        ({"mpp": None}, ()),
        ({"mpp": None, "magnification": None}, ("resolution unverified",)),
        ({"tile_px": None}, ("tile size unverified",)),
        ({"grid": None}, ("tile size and resolution unverified",)),
    ],
)
def test_what_cannot_be_verified_is_flagged(changed: dict, flags: tuple[str, ...]) -> None:
    assert make_predictor().predict(make_bag(**changed)).flags == flags


def test_a_model_without_graph_takes_a_bag_without_coordinates() -> None:
    model = table.build_model("mean_logistic", Dims(dim_in=DIM))
    card = make_card(model="mean_logistic", options={})
    answer = Predictor(model, card).predict(make_bag(grid=None, neighbours=None))
    assert answer.grid is None


# --- saving and loading


def test_save_then_load_predicts_the_same_bits(saved: Path) -> None:
    one, other, bag = make_predictor(), load_predictor(saved), make_bag()
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert list(saved.parent.iterdir()) == [saved]
    mine, theirs = one.predict(bag), other.predict(bag)
    assert np.array_equal(mine.probabilities, theirs.probabilities)
    assert np.array_equal(mine.attention, theirs.attention)
    assert not any(p.requires_grad for p in other.model.parameters())
    assert other.card == one.card.model_copy(update={"weights_sha256": other.card.weights_sha256})


@pytest.mark.parametrize("name", ["momkd", "abmil", "mean_logistic"])
def test_every_model_survives_the_disk(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    dims = Dims(dim_in=DIM, n_genes=20)
    model = table.build_model(name, dims)
    options = model.options.model_dump(mode="json")
    one = Predictor(model, make_card(model=name, options=options))
    save_predictor(one, tmp_path / "p")
    other = load_predictor(tmp_path / "p")
    bag = make_bag()
    assert np.array_equal(one.predict(bag).probabilities, other.predict(bag).probabilities)
    assert not [k for k in load((tmp_path / "p" / "model.safetensors").read_bytes()) if "rna" in k]


def test_no_rna_weight_is_saved_and_bytes_repeat(saved: Path, tmp_path: Path) -> None:
    names = set(load((saved / "model.safetensors").read_bytes()))
    assert names == {"encoder.weight", "encoder.bias", "head.weight", "head.bias"}
    save_predictor(make_predictor(), tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_loading_leaves_the_random_generator_alone(saved: Path) -> None:
    state = torch.get_rng_state()
    load_predictor(saved)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_older_folder_is_replaced_whole(saved: Path) -> None:
    (saved / "stray.txt").write_text("old")
    save_predictor(make_predictor(seed=1), saved)
    assert not (saved / "stray.txt").exists()
    wanted = make_predictor(seed=1).predict(make_bag()).probabilities
    assert np.array_equal(load_predictor(saved).predict(make_bag()).probabilities, wanted)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_failed_write_keeps_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def full(path: Path, content: bytes) -> None:
        raise MachineError.of("X10", str(path), "no space left on device")

    monkeypatch.setattr("momkd.storage.write_bytes", full)
    with refused("X10", MachineError):
        save_predictor(make_predictor(seed=1), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    monkeypatch.undo()
    monkeypatch.setitem(table.MODELS, "tiny", Tiny)
    save_predictor(make_predictor(seed=1), saved)  # what the failure left does not stand in the way
    assert list(saved.parent.iterdir()) == [saved]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    one = make_predictor()
    with torch.no_grad():
        one.model.head.bias[0] = float("inf")
    with refused("C11"):
        save_predictor(one, tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_absent_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with refused("C05") as caught:
        load_predictor(saved)
    assert name in str(caught.value)


def test_any_changed_byte_of_the_weights_is_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    mutants = [whole[:n] for n in (0, 7, len(whole) // 2, len(whole) - 1)]
    for place in rng.integers(0, len(whole), 60):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        mutants.append(bytes(flipped))
    for mutant in mutants:
        path.write_bytes(mutant)
        with refused("C13", IntegrityError):
            load_predictor(saved)


def test_mutants_with_a_mended_digest_load_whole_or_are_refused(saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    rng = np.random.default_rng(1)
    n_refused, codes = 0, set[str]()
    for place in rng.integers(0, len(whole), 80):
        mutant = bytearray(whole)
        mutant[place] ^= 1 << int(rng.integers(8))
        tamper(saved, bytes(mutant))
        try:
            logits = load_predictor(saved).logits(make_bag())
        except ModelError as error:
            codes |= {p.code for p in error.problems}
            n_refused += 1
        else:
            assert np.isfinite(logits).all()
    assert codes <= {"C05", "C08", "C09", "C11"}
    assert n_refused > 20


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path("canary"),)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, pickle.dumps(Bomb()), b"PK\x03\x04" * 40])
def test_other_formats_are_refused_and_not_executed(
    saved: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved)
    tamper(saved, content)
    with refused("C05"):
        load_predictor(saved)
    assert not (saved / "canary").exists()


def changed_weights(saved: Path, **changed: Tensor | None) -> bytes:
    tensors = load((saved / "model.safetensors").read_bytes())
    for name, tensor in changed.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    return save(tensors)


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"head__bias": None}, "C08", "lacks head.bias; has besides nothing"),
        ({f"spare__{i}": torch.ones(1) for i in range(13)}, "C08", "and 3 more"),
        ({"encoder__weight": torch.zeros(4, 5)}, "C09", "(4, 5) float32, wanted (4, 6) float32"),
        ({"head__bias": torch.zeros(2).double()}, "C09", "float64"),
        ({"head__bias": torch.tensor([0.0, float("nan")])}, "C11", "head.bias"),
    ],
)
def test_weights_that_do_not_fit_the_card(
    saved: Path, changed: dict[str, Tensor | None], code: str, words: str
) -> None:
    tamper(saved, changed_weights(saved, **changed))
    with refused(code) as caught:
        load_predictor(saved)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"format_version": 2}, "C12", "newer momkd"),
        ({"format_version": 0}, "C12", "train it again"),
        ({"format_version": True}, "C12", "True"),
        ({"format_version": None}, "C12", "None"),
        ({"model": "nothing"}, "C08", "unknown model"),
        ({"options": {"widht": 4}}, "C08", "unknown key"),
        ({"options": {"width": 5}}, "C09", "encoder.weight"),
        ({"options": {"width": 10**9}}, "C09", "encoder.weight"),
        ({"options": {"width": 10**18}}, "C08", "build no model"),
        ({"options": {"width": -1}}, "C08", "build no model"),
        ({"dims": {"dim_in": 7, "n_classes": 2}}, "C09", "wanted (4, 7)"),
        ({"dims": {"dim_in": 0, "n_classes": 2}}, "C08", "dims.dim_in"),
        ({"class_names": ["a", "b", "c"]}, "C08", "3 class names"),
        ({"temperature": 0}, "C08", "temperature"),
        ({"temperature": float("nan")}, "C08", "temperature"),
        ({"thresholds": {"max_f1": 1.5}}, "C08", "thresholds.max_f1"),
        ({"threshold_rule": "luck"}, "C08", "luck"),
        ({"seen_slides": ["TCGA-A1-A0SB"]}, "C08", "seen_slides"),
        ({"surprise": 1}, "C08", "unknown key"),
    ],
)
def test_cards_that_lie_are_refused(saved: Path, changed: dict, code: str, words: str) -> None:
    tamper(saved, **changed)
    with refused(code) as caught:
        load_predictor(saved)
    assert words in str(caught.value)
    assert all(len(p.line()) <= 300 for p in caught.value.problems)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\x00", '"x"'])
def test_a_damaged_card_is_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with refused("C05"):
        load_predictor(saved)


def test_a_card_without_digest_is_refused(saved: Path) -> None:
    tamper(saved, weights_sha256=None)
    with refused("C13", IntegrityError):
        load_predictor(saved)


# --- the model card


def test_readme_has_front_matter_and_hides_no_licence(saved: Path) -> None:
    text = (saved / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["library_name"] == "momkd"
    assert facts["license"] == "cc-by-nc-nd-4.0"
    assert "tiny" in facts["tags"]
    assert "## Limits" in body
    assert "## Intended use" in body
    assert "Research use only" in body
    assert "0.4200 (max_f1)" in body


def test_licence_is_handed_down() -> None:
    assert inherited_licence("UNI_v2") == "cc-by-nc-nd-4.0"
    assert inherited_licence("conch_v15") == "cc-by-nc-nd-4.0"
    assert inherited_licence("resnet50") == inherited_licence(None) == "other"


def test_hostile_names_stay_in_their_cell() -> None:
    nasty = "x |\n---\n# <script>alert(1)</script> [a](b)"
    text = describe_card(make_card(task=nasty, class_names=("a|b", "c")))
    assert text.count("\n---\n") == 1
    assert "<script" not in text.replace("\\<", "")
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "momkd"


# --- slides far from the training slides


def taught_on(*seeds: int, **changed: object) -> Predictor:
    described = fit_embedding_range(make_bag(seed, n=60).embeddings for seed in seeds)
    return make_predictor(embedding_range=described, **changed)


def test_a_slide_like_those_of_training_is_in_range(tmp_path: Path) -> None:
    one = taught_on(*range(8))
    answer = one.predict(make_bag(99, n=60))
    assert answer.out_of_range is False
    assert answer.flags == ()
    save_predictor(one, tmp_path / "p")
    assert load_predictor(tmp_path / "p").card.embedding_range == one.card.embedding_range
    lines = (tmp_path / "p" / "config.json").read_text().splitlines()
    assert len([line for line in lines if '"mean"' in line]) == 1, "a number a line"


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 3, lambda x: 4 * x, lambda x: 0.01 * x, lambda x: x * torch.arange(DIM).eq(2)],
    ids=["shifted", "stretched", "shrunk", "dimensions lost"],
)
def test_a_slide_far_from_those_of_training_is_flagged_and_scored(change) -> None:
    one, bag = taught_on(*range(8)), make_bag(99, n=60)
    far = make_bag(99, n=60, embeddings=change(bag.embeddings))
    answer = one.predict(far)
    assert answer.out_of_range is True
    assert answer.flags == ("embeddings out of range",)
    without = make_predictor().predict(far)
    assert without.out_of_range is None
    assert np.array_equal(answer.probabilities, without.probabilities)


def test_the_distance_is_that_of_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    slides = [torch.randn(50, 3, generator=generator) for _ in range(4)]
    known = fit_embedding_range(slides)
    mean = np.array([s.double().mean(0).numpy() for s in slides])
    variance = np.array([s.double().var(0, correction=0).numpy() for s in slides])
    spread = (variance + mean**2).mean(0) - mean.mean(0) ** 2
    assert np.allclose(known.mean, mean.mean(0), rtol=1e-5)
    assert np.allclose(known.variance, spread, rtol=1e-5)
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0]])
    moved = (np.array([2, 2, 5]) - known.mean) ** 2
    moved += (np.array([1, 0, 2]) - np.sqrt(known.variance)) ** 2
    assert known.distance(x) == pytest.approx(np.sqrt((moved / known.variance).mean()), rel=1e-9)
    assert known.distance(x.half()) == pytest.approx(known.distance(x))
    assert known.greatest == pytest.approx(max(known.distance(s) for s in slides))
    assert known.limit == pytest.approx(1.25 * known.greatest)


def test_nothing_is_described_where_nothing_varies() -> None:
    assert fit_embedding_range([]) is None
    assert fit_embedding_range([torch.ones(5, 3)]) is None
    flat = torch.cat([torch.randn(9, 2), torch.ones(9, 1)], dim=1)
    assert np.isfinite(fit_embedding_range([flat]).distance(flat + 1))


def test_an_ensemble_flags_what_most_members_flag() -> None:
    far = make_bag(99, n=60)
    near, distant = taught_on(*range(8)), taught_on(*range(8))
    moved = distant.card.embedding_range
    moved = moved.model_copy(update={"mean": tuple(m + 9 for m in moved.mean)})
    distant.card = distant.card.model_copy(update={"embedding_range": moved})
    for members, wanted in (([near, near, distant], False), ([near, distant, distant], True)):
        answer = Ensemble(members).predict(far).prediction
        assert answer.out_of_range is wanted
        assert ("embeddings out of range" in answer.flags) is wanted
    assert Ensemble([make_predictor()]).predict(far).prediction.out_of_range is None


def test_a_range_of_another_width_is_refused() -> None:
    described = fit_embedding_range([torch.randn(9, DIM + 1)])
    with pytest.raises(ValueError, match="dims say"):
        make_card(embedding_range=described)


# --- ensembles


def test_ensemble_is_the_mean_of_its_members() -> None:
    members = [
        make_predictor(seed, thresholds={"max_f1": 0.1 * (seed + 1), "other": 0.5})
        for seed in range(3)
    ]
    ensemble, bag = Ensemble(members), make_bag()
    answer = ensemble.predict(bag)
    each = [m.predict(bag) for m in members]
    p = np.array([e.probabilities[1] for e in each])
    assert answer.prediction.probabilities[1] == pytest.approx(p.mean())
    assert (answer.low, answer.high) == (p.min(), p.max())
    assert answer.prediction.attention == pytest.approx(np.mean([e.attention for e in each], 0))
    assert len(answer.members) == 3
    assert ensemble.threshold == pytest.approx(0.2)
    assert ensemble.thresholds["other"] == 0.5
    assert ensemble.card is members[0].card
    assert ensemble.has_seen("cd" * 32)
    assert not ensemble.has_seen("ef" * 32)


def test_one_member_alone_answers_as_itself() -> None:
    one, bag = make_predictor(), make_bag()
    answer = Ensemble([one]).predict(bag)
    assert np.array_equal(answer.prediction.probabilities, one.predict(bag).probabilities)
    assert answer.low == answer.high == answer.prediction.probabilities[1]


def test_an_empty_ensemble_is_refused() -> None:
    with refused("P10"):
        Ensemble([])


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "ER"},
        {"class_names": ("positive", "negative")},
        {"encoder": "conch"},
        {"encoder_sha256": "ab" * 32},
        {"mpp": 0.25},
        {"tile_px": 512},
        {"neighbours": 4},
        {"options": {"width": 5}},
        {"threshold_rule": "sensitivity_95"},
    ],
)
def test_members_of_different_kinds_are_refused(changed: dict) -> None:
    with refused("P11") as caught:
        Ensemble([make_predictor(), make_predictor(**changed)])
    assert f"member 2 has {next(iter(changed))}" in str(caught.value)
