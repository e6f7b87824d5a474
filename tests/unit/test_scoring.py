"""Scores of slides and cases."""

import math

import numpy as np
import pytest
import torch

from momkd.errors import MachineError, ModelError
from momkd.fitting.device import machine_faults, make_fabric
from momkd.fitting.scoring import score_cases
from momkd.training import Scored, score
from tests.unit.toy_training import Toy, build, val_source


def _scored(case_id: str, label: int, p: float) -> Scored:
    logits = np.log(np.array([1 - p, p], dtype=np.float32))
    return Scored(case_id=case_id, slide_id=f"{case_id}-s", label=label, logits=logits)


def test_slides_are_averaged_as_probabilities() -> None:
    cases = score_cases(
        [_scored("a", 1, 0.9), _scored("b", 0, 0.4), _scored("a", 1, 0.1), _scored("c", 0, 0.7)]
    )
    # case a has mean 0.5: above b, below c
    assert cases.auroc == pytest.approx(0.5)
    assert cases.loss == pytest.approx(-np.mean(np.log([0.5, 0.6, 0.3])))
    assert cases.spread == pytest.approx(np.std([0.5, 0.4, 0.7]))


def test_sure_and_wrong_is_a_finite_loss() -> None:
    far = Scored(
        case_id="a", slide_id="a", label=0, logits=np.array([-500.0, 500.0], dtype=np.float32)
    )
    assert score_cases([far]).loss == pytest.approx(1000.0)


def test_undefined_scores_are_nan() -> None:
    one = score_cases([_scored("a", 1, 0.9)])
    assert math.isnan(one.auroc)
    assert math.isnan(one.spread)


def test_three_classes_one_against_the_rest() -> None:
    logits = np.eye(3, dtype=np.float32)
    scored = [
        Scored(case_id=str(i), slide_id=str(i), label=label, logits=logits[i])
        for i, label in enumerate([0, 2, 1])
    ]
    # class 0 is first of 3; classes 1 and 2 each rank their case below one other
    assert score_cases(scored).auroc == pytest.approx((1.0 + 0.25 + 0.25) / 3)


def test_scores_in_order_and_in_evaluation_mode() -> None:
    source, model = val_source(), build().train()
    one, four = score(model, source), score(model, source, batch_size=4)
    assert not model.training
    assert [s.slide_id for s in one] == [k.slide_id for k in source.keys]
    assert [(s.case_id, s.label) for s in one] == [(k.case_id, k.label) for k in source.keys]
    for a, b in zip(one, four, strict=True):
        np.testing.assert_array_equal(a.logits, b.logits)


def test_logits_that_are_no_numbers_are_refused() -> None:
    class Broken(Toy):
        def forward(self, bag):  # type: ignore[no-untyped-def]
            output = super().forward(bag)
            if bag.slide_id == "v3-0":
                output.logits[0] = torch.nan
            return output

    with pytest.raises(ModelError, match=r"\[T06\] slide v3-0: .*1 of 12"):
        score(build(Broken), val_source())


def test_device_that_is_not_there() -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(MachineError, match=rf"\[T18\] {absent}: no such device"):
        make_fabric(absent, "32-true")


def test_machine_faults_name_the_slide() -> None:
    with (
        pytest.raises(MachineError, match=r"\[T05\] slide s: out of memory"),
        machine_faults("slide s"),
    ):
        torch.empty(2**55)
    with pytest.raises(MachineError, match=r"\[T05\]"), machine_faults("slide s"):
        raise MemoryError
    with (
        pytest.raises(MachineError, match=r"\[T18\] slide s: device failed"),
        machine_faults("slide s"),
    ):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="size mismatch"), machine_faults("slide s"):
        raise RuntimeError("size mismatch")
