"""Optimisers and schedules of the published recipes, and that a training with them goes on."""

import math
from pathlib import Path

import pytest
import torch

from momkd.checkpoint import CheckpointStore
from momkd.errors import InterruptedRunError
from momkd.fitting.optimizers import Lookahead, make_optimizer
from momkd.fitting.schedules import learning_rate
from tests.unit.toy_training import OPTIONS, digest, train_toy


def _rate(name: str, epoch: int, n_drops: int = 0) -> float:
    return learning_rate(
        name,  # type: ignore[arg-type]
        lr=0.1,
        epoch=epoch,
        n_epochs=10,
        n_drops=n_drops,
        factor=0.2,
        lr_final=0.01,
        step_epoch=4,
    )


def test_schedules() -> None:
    assert [_rate("constant", e) for e in (0, 9)] == [0.1, 0.1]
    assert _rate("plateau", 9, n_drops=2) == pytest.approx(0.1 * 0.04)
    assert [_rate("step", e) for e in (3, 4, 9)] == pytest.approx([0.1, 0.02, 0.02])
    assert _rate("linear", 0) == pytest.approx(0.1 - 0.09 / 11)
    assert _rate("linear", 9) == pytest.approx(0.1 - 0.9 / 11)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, 0.01)
    for epoch in range(10):
        assert _rate("cosine", epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()


def test_lookahead_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    look = Lookahead(torch.optim.SGD([weight], lr=0.1), k=2, alpha=0.5)
    for wanted in (0.9, 0.9, 0.8, 0.8):  # 1 -> .9 -> .8, half way back to 1 = .9, and again
        weight.grad = torch.tensor([1.0])
        look.step()
        assert float(weight.detach()) == pytest.approx(wanted)


def test_adam_couples_the_penalty_and_adamw_does_not() -> None:
    moved = {}
    for name in ("adam", "adamw"):
        weight = torch.nn.Parameter(torch.tensor([[2.0]]))
        groups = [{"params": [weight], "weight_decay": 0.1}]
        optimizer = make_optimizer(name, groups, lr=0.01, betas=(0.9, 0.999))  # type: ignore[arg-type]
        weight.grad = torch.zeros(1, 1)
        optimizer.step()
        moved[name] = 2.0 - float(weight.detach())
    assert moved["adam"] == pytest.approx(0.01, rel=1e-3)  # the penalty's sign, at full step
    assert moved["adamw"] == pytest.approx(2.0 * 0.01 * 0.1, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "lookahead_radam"])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_an_interrupted_training_ends_the_same(tmp_path: Path, name: str, schedule: str) -> None:
    changed = {"optimizer": name, "schedule": schedule, "step_epoch": 2, "betas": (0.5, 0.9)}
    options = OPTIONS.model_copy(update=changed)
    whole = digest(train_toy(options=options))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked % 17 == 0

    for _ in range(1000):
        try:
            fitted = train_toy(tmp_path / "checkpoint", options, should_stop=stop)
            break
        except InterruptedRunError:
            continue
    assert digest(fitted) == whole
    assert CheckpointStore(tmp_path / "checkpoint").load() is not None
    assert math.isfinite(fitted.history[-1]["loss"])
