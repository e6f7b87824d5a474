"""One loop for every model: prepare, learn, validate on histology alone, keep the best, stop.

A training is a pure function of the model's start, the samples, the options and the seed: order
and randomness of every step follow from (seed, epoch, step), so one that is killed and goes on
from its checkpoint ends with the same bytes as one that is not.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from momkd.checkpoint import CheckpointStore, require_same
from momkd.config import Options
from momkd.errors import InterruptedRunError, ModelError
from momkd.fitting.allocator import keep_freed_memory
from momkd.fitting.device import Precision, make_fabric
from momkd.fitting.kernels import kernels_of_fit
from momkd.fitting.optimizers import OptimizerName
from momkd.fitting.pace import Pace, Progress
from momkd.fitting.sampling import (
    PlacedSamples,
    Purpose,
    batches,
    derive_seed,
    epoch_order,
    places_to_visit,
)
from momkd.fitting.schedules import ScheduleName, learning_rate
from momkd.fitting.scoring import Scored, score, score_cases, score_placed
from momkd.fitting.stepping import Stepper
from momkd.fitting.stopping import COLLAPSE_EPOCHS, CollapseWatch, Watch
from momkd.models.base import BagClassifier
from momkd.nn.graph_attention import choose_kernels
from momkd.types import SampleSource

__all__ = ["FitOptions", "Fitted", "Progress", "Scored", "fit", "score"]

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]

_CONSTANT_SPREAD = 1e-6
_SAVING_SHARE = 0.1
_WITHOUT_EFFECT = ("checkpoint_every_s", "keep_memory")


class FitOptions(Options):
    """How a model is trained.

    ``smoothing`` is the weight of the past in the smoothed validation score; ``patience`` the
    number of epochs without a better one after which training stops. ``select`` names the score:
    the AUROC over validation cases, or their negative log-likelihood. ``clip_norm`` bounds the
    gradient's norm. ``optimizer`` and ``schedule`` are explained in :mod:`momkd.fitting.optimizers`
    and :mod:`momkd.fitting.schedules`; ``lr_final`` belongs to the schedules ``cosine`` and
    ``linear``, ``step_epoch`` to ``step``. ``balanced`` draws cases of all classes equally often.
    Half precision with a loss scale (``16-mixed``) is not offered: its scale is state that the data
    drive. ``threads`` is how many of them torch computes with; on few cores more than one is rarely
    faster. ``kernels``, the precision ``fast`` and ``keep_memory`` are explained in docs/speed.md.
    """

    epochs: int = Field(100, ge=1)
    patience: int = Field(10, ge=1)
    smoothing: float = Field(0.4, ge=0.0, lt=1.0)
    select: Literal["auroc", "loss"] = "auroc"
    optimizer: OptimizerName = "adamw"
    lr: float = Field(2e-4, gt=0.0, allow_inf_nan=False)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(1e-4, ge=0.0, allow_inf_nan=False)
    batch_size: int = Field(1, ge=1)
    clip_norm: float | None = Field(16.0, gt=0.0)
    schedule: ScheduleName = "plateau"
    plateau_factor: float = Field(0.2, gt=0.0, lt=1.0)
    plateau_patience: int = Field(5, ge=0)
    lr_final: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    step_epoch: int = Field(100, ge=1)
    balanced: bool = True
    precision: Precision = "32-true"
    device: str = Field("cpu", pattern=r"^(cpu|auto|mps|cuda(:\d+)?)$")
    stop_on_collapse: bool = True
    checkpoint_every_s: float = Field(120.0, gt=0.0)
    threads: int = Field(1, ge=1)
    kernels: Literal["auto", "torch", "numba", "triton"] = "auto"
    keep_memory: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A trained model and how it came about.

    Parameters
    ----------
    model
        The model given to :func:`fit`, with its best weights, on the CPU, in evaluation mode.
    history
        One row an epoch: figures only, no clock times, equal from run to run.
    best_epoch
        Its index in ``history``; epochs count from 0.
    stop_reason
        ``patience``, ``epochs``, or ``nothing to train``.
    epochs_run
        Epochs of training, the best one and those after it.
    notes
        What a reader should know: a collapse that was let pass, an older checkpoint used.
    kernels
        What graph attention was computed with; empty for a model without it.
    """

    model: BagClassifier
    history: list[dict[str, Any]]
    best_epoch: int
    stop_reason: str
    epochs_run: int
    notes: tuple[str, ...] = ()
    kernels: str = ""


def fit(
    model: BagClassifier,
    train: SampleSource,
    val: SampleSource,
    options: FitOptions,
    *,
    seed: int,
    checkpoint: CheckpointStore | None = None,
    fingerprint: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Train a model in place; go on where ``checkpoint`` stands; return at once if it is done.

    Parameters
    ----------
    model
        Freshly built, the same way each time. Its state is what ``state_dict`` holds.
    train, val
        Samples to learn from, and samples with a slide to choose the epoch by.
    seed
        Of order and randomness; torch's global generator is reseeded at every step.
    checkpoint
        Where to save; None trains without saving.
    fingerprint
        Whatever must be the same for a training to go on: configuration, data, versions, threads.
        The seed, the options (but ``checkpoint_every_s``) and the kernels are added to it.
    on_progress
        Told at the end of each epoch, and in between a few times a second.
    should_stop
        Asked before every sample; True saves and raises.

    Raises
    ------
    InterruptedRunError
        T02 stopped on request; the same call goes on.
    ConfigError
        T14 the checkpoint is of a training with another fingerprint; the fields are named.
    ModelError
        T06 a loss term, gradient or validation logit is not finite, T07 the validation side has
        no score, T09 the model has collapsed.
    MachineError
        T03, T04 a checkpoint cannot be saved, T05 out of memory, T18 no such device, or lost.
    IntegrityError
        T16 no generation of the checkpoint is whole.
    """
    own = {f"fit.{k}": repr(v) for k, v in options if k not in _WITHOUT_EFFECT}
    identity = {**(fingerprint or {}), **own, "seed": str(seed)}
    if model.has_kernels:
        choice = kernels_of_fit(options.kernels, options.precision, options.device)
        model.use_kernels(choice)
        identity["kernels"] = choice.identity
    _require_scorable(model, val, options)
    saved = None
    if checkpoint is not None:
        saved = checkpoint.load()
        if saved is not None:
            require_same(identity, saved["fingerprint"], str(checkpoint.folder))
    loop = _Loop(model, train, val, options, seed, checkpoint, identity, on_progress, should_stop)
    if saved is None:
        loop.prepare()
    else:
        loop.restore(saved)
    while loop.stop_reason is None:
        loop.train_epoch()
        loop.close_epoch()
    return loop.give_best()


class _Loop:
    """One training: its parts, where it stands, and the moves that take it on."""

    def __init__(
        self,
        model: BagClassifier,
        train: SampleSource,
        val: SampleSource,
        options: FitOptions,
        seed: int,
        store: CheckpointStore | None,
        identity: Mapping[str, str],
        on_progress: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        torch.set_num_threads(options.threads)
        if options.keep_memory:
            keep_freed_memory()
        self.fabric = make_fabric(options.device, options.precision)
        self.fabric.to_device(model)
        self.model = model
        self.train = PlacedSamples(train, self.fabric.device, self._let_stop)
        self.val = PlacedSamples(val, self.fabric.device, self._let_stop)
        self.options = options
        self.seed = seed
        self.store = store
        self.identity = dict(identity)
        self.should_stop = should_stop
        self.stepper = Stepper(
            model,
            self.fabric,
            seed=seed,
            optimizer=options.optimizer,
            lr=self._learning_rate(0, n_drops=0),
            betas=options.betas,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
        )
        # without anything to train, an epoch has no steps and one is enough
        self.n_epochs = options.epochs if self.stepper.has_work else 1
        self.places = places_to_visit(train.keys, rna_alone=model.steps_on_rna_alone)
        n_steps = math.ceil(len(self.places) / options.batch_size)
        self.n_steps = n_steps if self.stepper.has_work else 0
        self.pace = Pace(
            on_progress,
            n_epochs=self.n_epochs,
            n_steps=self.n_steps,
            waited_s=lambda: train.wait_s + val.wait_s,
        )
        self.is_prepared = False
        self.saved_at_s = -math.inf
        self.save_took_s = 0.0
        # from here on: what a checkpoint holds, beside model and optimiser
        self.epoch = 0
        self.step = 0
        self.sums: dict[str, list[float]] = {}  # figure -> [sum, number of steps that had it]
        self.history: list[dict[str, Any]] = []
        self.watch = Watch()
        self.collapse = CollapseWatch()
        self.best: dict[str, Any] | None = None
        self.stop_reason: str | None = None
        self.notes: list[str] = []

    def prepare(self) -> None:
        """Let the model start from data, and save that start."""
        torch.manual_seed(derive_seed(self.seed, Purpose.PREPARE))
        self.model.prepare(self.train)
        self.notes += self.model.start_notes
        self.is_prepared = True
        self._save()

    def train_epoch(self) -> None:
        """Take the steps of the current epoch that are still open."""
        size = self.options.batch_size
        keys = [self.train.keys[i] for i in self.places]
        order = epoch_order(keys, seed=self.seed, epoch=self.epoch, balanced=self.options.balanced)
        open_ = [self.places[i] for i in order[self.step * size : self.n_steps * size].tolist()]
        self.model.train()
        for batch in batches(self.train.iterate(open_), size):
            figures = self.stepper.take(batch, self.epoch, self.step)
            for name, value in figures.items():
                total, n = self.sums.get(name, (0.0, 0))
                self.sums[name] = [total + value, n + 1]
            self.step += 1
            self.pace.count_step(len(batch))
            self._tell()
            if time.monotonic() - self.saved_at_s > self.options.checkpoint_every_s:
                self._save()

    def close_epoch(self) -> None:
        """Validate, keep the best weights, write the epoch's row, and decide what comes next."""
        torch.manual_seed(derive_seed(self.seed, Purpose.VALIDATION, self.epoch))
        scored = score_placed(self.model, self.val, self.options.batch_size, self.fabric)
        cases = score_cases(scored)
        diagnostics = self.model.diagnostics()
        row: dict[str, Any] = {"epoch": self.epoch, "lr": self.stepper.lr}
        row |= {name: total / n for name, (total, n) in self.sums.items()}
        is_best = self.watch.observe(
            self.epoch,
            cases.auroc if self.options.select == "auroc" else -cases.loss,
            smoothing=self.options.smoothing,
            plateau_patience=self._plateau_patience(),
        )
        row |= {"val_auroc": cases.auroc, "val_loss": cases.loss, "smoothed": self.watch.smoothed}
        self.history.append(row | diagnostics)
        if is_best:
            self.best = copy.deepcopy(self.model.state_dict())
        self._heed_collapse(cases.spread, diagnostics)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        self.stepper.lr = self._learning_rate(self.epoch, n_drops=self.watch.n_drops)
        self.stop_reason = self._reason_to_stop()
        self._tell(at_once=True)
        self._save_if_cheap()

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Stand where a checkpoint stands."""
        self.model.load_state_dict(saved["model"])
        if saved["optimizer"] is not None:
            self.stepper.load_state_dict(saved["optimizer"])
        self.epoch, self.step, self.sums = saved["epoch"], saved["step"], saved["sums"]
        self.history, self.notes = saved["history"], saved["notes"]
        self.watch = Watch(**saved["watch"])
        self.collapse = CollapseWatch(**saved["collapse"])
        self.stop_reason = saved["stop_reason"]
        self.best = saved["best"] if self.stop_reason is None else saved["model"]
        self.is_prepared = True

    def give_best(self) -> Fitted:
        """Put the best weights into the model and say how it went."""
        assert self.best is not None
        assert self.watch.best_epoch is not None
        self.model.load_state_dict(self.best)
        self.model.to("cpu").eval()
        self.model.use_kernels(choose_kernels(self.options.kernels))  # with exact products
        return Fitted(
            model=self.model,
            history=self.history,
            best_epoch=self.watch.best_epoch,
            stop_reason=str(self.stop_reason),
            epochs_run=self.epoch if self.stepper.has_work else 0,
            notes=(*self.notes, *(self.store.notes if self.store else ())),
            kernels=self.identity.get("kernels", ""),
        )

    def _save(self) -> None:
        """Save where the training stands; a finished one keeps its best weights only."""
        if self.store is None:
            return
        started_s = time.monotonic()
        done = self.stop_reason is not None
        self.store.save(
            {
                "fingerprint": self.identity,
                "model": self.best if done else self.model.state_dict(),
                "optimizer": None if done else self.stepper.state_dict(),
                "best": None if done else self.best,
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "history": self.history,
                "watch": asdict(self.watch),
                "collapse": asdict(self.collapse),
                "stop_reason": self.stop_reason,
                "notes": self.notes,
            }
        )
        self.saved_at_s = time.monotonic()
        self.save_took_s = self.saved_at_s - started_s

    def _save_if_cheap(self) -> None:
        """Save unless the training is so fast that saving would be a large part of its time."""
        pause_s = self.save_took_s / _SAVING_SHARE
        if self.stop_reason is not None or time.monotonic() - self.saved_at_s >= pause_s:
            self._save()

    def _let_stop(self) -> None:
        """Save and stop if asked to; called between steps, before a sample is read."""
        if self.should_stop is None or not self.should_stop():
            return
        if self.is_prepared:  # before that there is nothing worth saving
            self._save()
        where = f"epoch {self.epoch} step {self.step}"
        raise InterruptedRunError.of("T02", where, "stopped on request", "the same command goes on")

    def _heed_collapse(self, spread: float, diagnostics: Mapping[str, float]) -> None:
        signs = {k: v >= 1.0 for k, v in diagnostics.items() if k.startswith("collapse_")}
        signs["constant validation scores"] = spread < _CONSTANT_SPREAD
        lasting = self.collapse.observe(self.epoch, signs)
        if not lasting:
            return
        what = f"{', '.join(lasting)} for {COLLAPSE_EPOCHS} epochs in a row (epoch {self.epoch})"
        if self.options.stop_on_collapse:
            remedy = "try another seed or fit.lr; fit.stop_on_collapse: false goes on regardless"
            name = f"model {type(self.model).__name__}"
            raise ModelError.of("T09", name, f"collapsed: {what}", remedy)
        self.notes.append(f"[T09] collapsed: {what}")

    def _reason_to_stop(self) -> str | None:
        if not self.stepper.has_work:
            return "nothing to train"
        if self.watch.n_since_best >= self.options.patience:
            return "patience"
        return "epochs" if self.epoch == self.n_epochs else None

    def _learning_rate(self, epoch: int, *, n_drops: int) -> float:
        o = self.options
        return learning_rate(
            o.schedule,
            lr=o.lr,
            epoch=epoch,
            n_epochs=o.epochs,
            n_drops=n_drops,
            factor=o.plateau_factor,
            lr_final=o.lr_final,
            step_epoch=o.step_epoch,
        )

    def _plateau_patience(self) -> int | None:
        return self.options.plateau_patience if self.options.schedule == "plateau" else None

    def _tell(self, *, at_once: bool = False) -> None:
        self.pace.tell(
            epoch=self.epoch,
            step=self.step,
            score=self.watch.smoothed,
            best_score=self.watch.best,
            at_once=at_once,
        )


def _require_scorable(model: BagClassifier, val: SampleSource, options: FitOptions) -> None:
    """Refuse a validation side without a score, which no epoch could be chosen by."""
    present = {key.label for key in val.keys}
    missing = set(range(model.dims.n_classes)) - present
    if not present or (missing and options.select == "auroc"):
        what = f"{len(val.keys)} samples, none of class {', '.join(map(str, sorted(missing)))}"
        remedy = "hold out more cases for validation, or set fit.select: loss"
        raise ModelError.of("T07", "validation side", what, remedy)
