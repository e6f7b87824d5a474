"""One loop for every model: prepare, learn, validate on histology alone, keep the best, stop.

A training is a pure function of the model's start, the samples, the options and the seed: order
and randomness of every step follow from (seed, epoch, step), so one that is killed and goes on
from its checkpoint ends with the same bytes as one that is not.

Several processes may share a training: each runs this loop on its part of every batch, and all
come to the same state and the same decisions; the first one alone writes.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from momkd.checkpoint import CheckpointStore, require_same
from momkd.errors import InterruptedRunError, ModelError
from momkd.fitting.admission import require_company, require_scorable
from momkd.fitting.allocator import keep_freed_memory
from momkd.fitting.device import make_fabric, room_on
from momkd.fitting.division import own_part, require_equal
from momkd.fitting.fit_options import FitOptions
from momkd.fitting.fitted import Fitted
from momkd.fitting.kernels import kernels_of_fit
from momkd.fitting.pace import Pace, Progress
from momkd.fitting.sampling import (
    PlacedSamples,
    Purpose,
    batches,
    derive_seed,
    epoch_order,
    name_keys,
    places_to_visit,
)
from momkd.fitting.schedules import learning_rate
from momkd.fitting.scoring import Scored, score, score_cases, score_placed
from momkd.fitting.stepping import Stepper
from momkd.fitting.stopping import COLLAPSE_EPOCHS, CollapseWatch, Watch
from momkd.models.base import BagClassifier
from momkd.nn.graph_attention import choose_kernels
from momkd.nn.processes import ALONE, Processes
from momkd.types import SampleSource

__all__ = ["FitOptions", "Fitted", "Progress", "Scored", "fit", "score"]

_CONSTANT_SPREAD = 1e-6
_SAVING_SHARE = 0.1
_WITHOUT_EFFECT = ("checkpoint_every_s", "keep_memory", "device_cache_gib")


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
    processes: Processes = ALONE,
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
    processes
        Who shares each batch; all make this call, with the same arguments, but that the first
        alone has ``checkpoint``, ``on_progress`` and ``should_stop``.

    Raises
    ------
    InterruptedRunError
        T02 stopped on request, T19 another process is gone; the same call goes on.
    ConfigError
        T14 the checkpoint is of a training with another fingerprint; the fields are named. G18
        ``options.devices`` are not these processes, or cannot share a batch of this model.
    ModelError
        T06 a loss term, gradient or validation logit is not finite, T07 the validation side has
        no score, T09 the model has collapsed.
    MachineError
        T03, T04 a checkpoint cannot be saved, T05 out of memory, T18 no such device, or lost.
    IntegrityError
        T16 no generation of the checkpoint is whole, T20 processes came apart.
    """
    require_company(model, options, processes)
    own = {f"fit.{k}": repr(v) for k, v in options if k not in _WITHOUT_EFFECT}
    identity = {**(fingerprint or {}), **own, "seed": str(seed)}
    if model.has_kernels:
        choice = kernels_of_fit(options.kernels, options.precision, options.device)
        model.use_kernels(choice)
        identity["kernels"] = choice.identity
    require_scorable(model, val, options)
    saved = processes.share(lambda: _load(checkpoint, identity))
    watched = (on_progress, should_stop)
    loop = _Loop(model, train, val, options, seed, checkpoint, identity, *watched, processes)
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
        processes: Processes,
    ) -> None:
        if options.keep_memory:
            keep_freed_memory()
        self.fabric = make_fabric(options.device, options.precision, processes)
        torch.set_num_threads(options.threads)  # fabric has a mind of its own where there are more
        self.fabric.to_device(model)
        model.processes = self.processes = processes
        self.model = model
        device, room = self.fabric.device, room_on(self.fabric.device, options.device_cache_gib)
        self.train = PlacedSamples(train, device, self._let_stop, room=room)
        self.val = PlacedSamples(val, device, self._let_stop, room=room)
        self.options = options
        self.seed = seed
        self.store = store
        self.identity = dict(identity)
        self.should_stop = should_stop
        self.stepper = Stepper(
            model,
            self.fabric,
            processes,
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
        if self.processes.rank == 0:
            self.model.prepare(self.train)
        self._start_as_the_first()
        self.notes += self.model.start_notes
        self.is_prepared = True
        self._save()

    def train_epoch(self) -> None:
        """Take the steps of the current epoch that are still open."""
        size, all_keys = self.options.batch_size, self.train.keys
        keys = [all_keys[i] for i in self.places]
        order = epoch_order(keys, seed=self.seed, epoch=self.epoch, balanced=self.options.balanced)
        open_ = order[self.step * size : self.n_steps * size].tolist()
        whole = list(batches([self.places[i] for i in open_], size))
        parts = [own_part(batch, self.processes) for batch in whole]
        self.model.train()
        for places, part in zip(whole, self.train.groups(parts), strict=True):
            names = name_keys([all_keys[i] for i in places])
            figures = self.stepper.take(part, self.epoch, self.step, names)
            for name, value in figures.items():
                total, n = self.sums.get(name, (0.0, 0))
                self.sums[name] = [total + value, n + 1]
            self.step += 1
            self.pace.count_step(len(places))
            self._tell()
            if time.monotonic() - self.saved_at_s > self.options.checkpoint_every_s:
                self._save()

    def close_epoch(self) -> None:
        """Validate, keep the best weights, write the epoch's row, and decide what comes next."""
        torch.manual_seed(derive_seed(self.seed, Purpose.VALIDATION, self.epoch))
        size = self.options.batch_size
        scored = score_placed(self.model, self.val, size, self.fabric, self.processes)
        cases = score_cases(scored)
        require_equal(self.model, self.processes, self.epoch)
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
        self.model.processes = ALONE
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

    def _start_as_the_first(self) -> None:
        """Take over what the first process has prepared; nothing to do for that one."""

        def tell() -> tuple[dict[str, Any], tuple[str, ...]]:
            state = self.model.state_dict()
            if self.processes.size > 1:
                state = {name: tensor.cpu() for name, tensor in state.items()}
            return state, self.model.start_notes

        state, notes = self.processes.share(tell)
        if self.processes.rank:
            self.model.load_state_dict(state)
            self.model.start_notes = notes

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


def _load(store: CheckpointStore | None, identity: Mapping[str, str]) -> dict[str, Any] | None:
    """Give where a training stands, or None; refuse what another one saved."""
    saved = None if store is None else store.load()
    if store is not None and saved is not None:
        require_same(identity, saved["fingerprint"], str(store.folder))
    return saved
