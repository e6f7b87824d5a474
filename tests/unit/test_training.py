"""The loop: what it promises of a training, shown on a small model."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from momkd.checkpoint import CheckpointStore
from momkd.config import parse_options
from momkd.errors import ConfigError, MachineError, ModelError
from momkd.fitting.device import make_fabric
from momkd.fitting.scoring import score_cases
from momkd.fitting.stepping import Stepper
from momkd.fitting.stopping import COLLAPSE_EPOCHS
from momkd.training import FitOptions, Fitted, Progress, fit, score
from momkd.types import Bag, Losses, Output, Sample
from tests.unit.toy_training import (
    OPTIONS,
    MemorySource,
    Toy,
    build,
    digest,
    make_samples,
    train_source,
    train_toy,
    val_source,
)


def _options(**changes: Any) -> FitOptions:
    return OPTIONS.model_copy(update=changes)


def _fit(model: Any, options: FitOptions = OPTIONS, **kwargs: Any) -> Fitted:
    return fit(model, train_source(), val_source(), options, seed=7, **kwargs)


def test_two_runs_are_equal_to_the_bit() -> None:
    first = digest(train_toy())
    torch.manual_seed(99)
    torch.rand(5)
    assert digest(train_toy()) == first
    other = fit(build(), train_source(), val_source(), OPTIONS, seed=8)
    assert digest(other)["weights"] != first["weights"]


def test_saving_changes_nothing(tmp_path: Path) -> None:
    assert digest(train_toy(tmp_path)) == digest(train_toy())


def test_it_learns() -> None:
    easy = {"signal_size": 4.0}
    train, val = train_source(**easy), val_source(**easy)
    fitted = fit(build(), train, val, _options(epochs=12), seed=7)
    assert fitted.history[fitted.best_epoch]["val_auroc"] > 0.95
    assert fitted.history[-1]["loss_ce"] < 0.5 * fitted.history[0]["loss_ce"]


def test_history_has_figures_and_no_clock() -> None:
    fitted = train_toy()
    assert [row["epoch"] for row in fitted.history] == list(range(OPTIONS.epochs))
    assert set(fitted.history[0]) == {
        *("epoch", "lr", "loss", "loss_ce", "loss_rna", "grad_norm"),
        *("val_auroc", "val_loss", "smoothed", "n_moves", "centre_norm"),
    }
    assert fitted.epochs_run == OPTIONS.epochs
    assert fitted.stop_reason == "epochs"
    # 21 samples in batches of 2, every slide moves a centre once
    assert 0 < fitted.history[0]["n_moves"] <= 21


def test_the_best_weights_are_given_back() -> None:
    fitted = train_toy(options=_options(epochs=8, lr=0.3, smoothing=0.0))
    assert fitted.best_epoch == np.argmax([row["val_auroc"] for row in fitted.history])
    assert fitted.best_epoch < 7, "the case shows nothing"
    assert not fitted.model.training
    cases = score_cases(score(fitted.model, val_source()))
    row = fitted.history[fitted.best_epoch]
    assert (cases.auroc, cases.loss) == (row["val_auroc"], row["val_loss"])
    assert float(fitted.model.n_moves) == row["n_moves"]


def test_selection_by_loss() -> None:
    fitted = train_toy(options=_options(epochs=6, lr=0.3, smoothing=0.0, select="loss"))
    assert fitted.best_epoch == np.argmin([row["val_loss"] for row in fitted.history])


def test_patience_and_plateau() -> None:
    # steps too small to move a weight: every epoch ties with the first
    still = _options(epochs=50, lr=1e-30, patience=7, plateau_patience=2, plateau_factor=0.5)
    fitted = _fit(build(_Frozen), still)
    assert (fitted.best_epoch, fitted.epochs_run, fitted.stop_reason) == (0, 8, "patience")
    lr = [row["lr"] / 1e-30 for row in fitted.history]
    assert lr == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])
    constant = _fit(build(_Frozen), still.model_copy(update={"schedule": "constant"}))
    assert {row["lr"] for row in constant.history} == {1e-30}


class _Frozen(Toy):
    """No state but the weights."""

    def after_step(self, losses: Losses) -> None:
        pass


class _Spy(Toy):
    """Remembers the batches it saw."""

    def losses(self, batch: Sequence[Sample]) -> Losses:
        assert self.training
        self.batches = [*getattr(self, "batches", []), len(batch)]
        return super().losses(batch)

    def forward_packed(self, bags: Sequence[Bag]) -> list[Output]:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.packs = [*getattr(self, "packs", []), len(bags)]
        return super().forward_packed(bags)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_batches(size: int) -> None:
    model = build(_Spy)
    _fit(model, _options(batch_size=size, epochs=1))
    assert sum(model.batches) == 21
    assert model.batches[:-1] == [size] * (math.ceil(21 / size) - 1)
    assert sum(model.packs) == 12
    assert max(model.packs) == min(size, 12)


def test_unbalanced_epoch_sees_each_sample_once() -> None:
    train = train_source()
    seen: list[Any] = []

    class Watching(Toy):
        def prepare(self, samples: Any) -> None:
            pass

        def losses(self, batch: Sequence[Sample]) -> Losses:
            seen.extend(s.case_id if s.bag is None else s.bag.slide_id for s in batch)
            return super().losses(batch)

    fit(build(Watching), train, val_source(), _options(balanced=False, epochs=1), seed=7)
    assert sorted(seen) == sorted(k.slide_id or k.case_id for k in train.keys)


def test_every_step_has_its_own_randomness() -> None:
    drawn: list[float] = []

    class Drawing(Toy):
        def losses(self, batch: Sequence[Sample]) -> Losses:
            drawn.append(float(torch.rand(())))
            return super().losses(batch)

    _fit(build(Drawing), _options(epochs=3))
    assert len(drawn) == len(set(drawn)) == 33


def test_validation_hears_no_rna() -> None:
    poisoned = [
        Sample(case_id=s.case_id, label=s.label, bag=s.bag, rna=torch.full((4,), math.nan))
        for s in val_source().samples
    ]
    fitted = fit(build(), train_source(), MemorySource(poisoned), OPTIONS, seed=7)
    assert digest(fitted) == digest(train_toy())


def test_a_model_without_anything_to_train(tmp_path: Path) -> None:
    class Fixed(Toy):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.requires_grad_(False)

        def losses(self, batch: Sequence[Sample]) -> Losses:
            pytest.fail("nothing is to be learnt")

    fitted = _fit(build(Fixed), checkpoint=CheckpointStore(tmp_path))
    assert (fitted.epochs_run, fitted.stop_reason, fitted.best_epoch) == (0, "nothing to train", 0)
    assert len(fitted.history) == 1
    assert fitted.history[0]["val_auroc"] == score_cases(score(fitted.model, val_source())).auroc
    assert float(fitted.model.centres.abs().sum()) > 0, "prepare was not called"
    assert digest(_fit(build(Fixed), checkpoint=CheckpointStore(tmp_path))) == digest(fitted)


def test_bf16_runs_in_bf16() -> None:
    seen = set()

    class Watching(Toy):
        def forward(self, bag: Bag) -> Output:
            output = super().forward(bag)
            seen.add((self.training, self.tiles(bag.embeddings).dtype))
            return output

        def prepare(self, samples: Any) -> None:
            pass

    fitted = _fit(build(Watching), _options(precision="bf16-mixed"))
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert fitted.model.tiles.weight.dtype == torch.float32
    assert all(math.isfinite(v) for row in fitted.history for v in row.values())
    assert fitted.history[0]["loss"] != train_toy().history[0]["loss"]


class _Poisoned(Toy):
    """One term goes wrong at one slide of the second epoch."""

    wrong: float = math.nan

    def losses(self, batch: Sequence[Sample]) -> Losses:
        losses = super().losses(batch)
        self.n_calls = getattr(self, "n_calls", 0) + 1
        if self.n_calls == 15:
            losses.terms["align"] = self.head.bias.sum() * self.wrong
            self.where = [s.case_id if s.bag is None else s.bag.slide_id for s in batch]
            self.before = {k: v.clone() for k, v in self.state_dict().items()}
        return losses


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_loss_that_is_no_number(wrong: float, tmp_path: Path) -> None:
    model = build(_Poisoned)
    model.wrong = wrong
    with pytest.raises(ModelError, match=r"\[T06\]") as refusal:
        _fit(model, checkpoint=CheckpointStore(tmp_path))
    line = str(refusal.value)
    for word in [*model.where, "loss_align is ", "epoch 1 step 3"]:
        assert word in line
    assert "loss_ce" not in line
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in model.before.items())
    state = CheckpointStore(tmp_path).load()
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 3)


def test_a_gradient_that_is_no_number() -> None:
    class Steep(Toy):
        def losses(self, batch: Sequence[Sample]) -> Losses:
            losses = super().losses(batch)
            losses.terms["steep"] = (self.head.bias * 0).sum().sqrt()
            return losses

    with pytest.raises(ModelError, match=r"\[T06\].*: grad_norm is nan at epoch 0 step 0"):
        _fit(build(Steep))


@pytest.mark.parametrize("labels", [(0, 0), ()])
def test_a_validation_side_without_a_score_is_refused(labels: tuple[int, ...]) -> None:
    samples = make_samples(len(labels), seed=0, name="v")
    val = MemorySource([Sample(case_id=s.case_id, label=0, bag=s.bag) for s in samples])
    train = train_source()
    with pytest.raises(ModelError, match=r"\[T07\] validation side"):
        fit(build(), train, val, OPTIONS, seed=7)
    assert train.n_read == 0


def test_one_class_can_be_selected_by_loss() -> None:
    val = MemorySource([s for s in val_source().samples if s.label == 0])
    fitted = fit(build(), train_source(), val, _options(select="loss"), seed=7)
    assert all(math.isnan(row["val_auroc"]) for row in fitted.history)
    assert math.isfinite(fitted.history[fitted.best_epoch]["smoothed"])


class _Constant(Toy):
    """Gives every slide the same score."""

    def forward(self, bag: Bag) -> Output:
        output = super().forward(bag)
        return Output(
            logits=self.head.bias + 0 * output.logits,
            attention=output.attention,
            embedding=output.embedding,
        )


class _Flagged(Toy):
    def diagnostics(self) -> dict[str, float]:
        return {"collapse_memory": 1.0, "collapse_other": 0.5}


@pytest.mark.parametrize(
    ("cls", "sign"), [(_Constant, "constant validation scores"), (_Flagged, "collapse_memory")]
)
def test_a_collapse_is_told(cls: type[Toy], sign: str) -> None:
    long = _options(epochs=COLLAPSE_EPOCHS + 3)
    with pytest.raises(ModelError, match=rf"\[T09\] model {cls.__name__}: collapsed: {sign} for 5"):
        _fit(build(cls), long)
    fitted = _fit(build(cls), long.model_copy(update={"stop_on_collapse": False}))
    assert fitted.stop_reason == "epochs"
    assert len(fitted.notes) == 1
    assert sign in fitted.notes[0]
    short = _options(epochs=COLLAPSE_EPOCHS)  # the first does not count
    assert _fit(build(cls), short).notes == ()


def test_out_of_memory_names_the_slide() -> None:
    class Greedy(Toy):
        def losses(self, batch: Sequence[Sample]) -> Losses:
            torch.empty(2**55)
            return super().losses(batch)

    with pytest.raises(MachineError, match=r"\[T05\] (slide|case) "):
        _fit(build(Greedy))


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    inner, n = os.fsync, 0

    def fail_later(handle: int) -> None:
        nonlocal n
        n += 1
        if n > 30:
            raise OSError(28, "No space left on device")
        inner(handle)

    monkeypatch.setattr("os.fsync", fail_later)
    with pytest.raises(MachineError, match=r"\[T03\].*No space left") as refusal:
        train_toy(tmp_path)
    assert refusal.value.exit_code == 6
    monkeypatch.undo()
    assert CheckpointStore(tmp_path).load() is not None
    assert digest(train_toy(tmp_path)) == digest(train_toy())


def test_progress_is_told() -> None:
    told: list[Progress] = []
    train_toy(on_progress=told.append)
    assert [(p.epoch, p.step) for p in told][-1] == (OPTIONS.epochs, 0)
    places = [p.epoch * p.n_steps + p.step for p in told]
    assert places == sorted(places)
    last = told[-1]
    assert (last.n_epochs, last.n_steps) == (OPTIONS.epochs, 11)
    assert last.samples_per_s > 0
    assert 0 <= last.wait_share <= 1
    assert last.eta_s == 0
    assert last.score is not None
    assert last.best_score is not None
    assert last.best_score >= last.score


def test_gradients_are_clipped_and_only_matrices_decay() -> None:
    batch = train_source().samples[:4]
    norms = {}
    for clip in (None, 1e-3):
        model = build()
        fabric = make_fabric("cpu", "32-true")
        stepper = Stepper(
            model,
            fabric,
            seed=1,
            optimizer="adamw",
            betas=(0.9, 0.999),
            lr=0.1,
            weight_decay=0.5,
            clip_norm=clip,
        )
        told = stepper.take(batch, 0, 0, "batch")["grad_norm"]
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norms[clip] = (told, float(torch.stack([g.norm() for g in grads]).norm()))
    assert norms[None][0] == pytest.approx(norms[None][1])
    assert norms[1e-3][0] == norms[None][0], "the norm is told as it was before clipping"
    assert norms[1e-3][1] == pytest.approx(1e-3, rel=1e-3)
    groups = stepper.state_dict()["param_groups"]
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.5, 4), (0.0, 4)]


def test_options_are_checked() -> None:
    assert parse_options(FitOptions, {}, "fit").patience == 10
    for bad in (
        {"epochs": 0},
        {"lr": math.inf},
        {"smoothing": 1.0},
        {"clip_norm": 0.0},
        {"precision": "16-mixed"},
        {"device": "gpu"},
        {"patienec": 3},
    ):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            parse_options(FitOptions, bad, "fit")
