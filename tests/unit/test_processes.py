"""Two processes that share a training come to what one comes to, and hold the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from momkd.checkpoint import CheckpointStore
from momkd.config import parse_options
from momkd.errors import ConfigError, IntegrityError, MachineError, MomkdError
from momkd.fitting.division import Adder, own_part, require_equal
from momkd.fitting.joining import require_devices
from momkd.models.table import MODELS
from momkd.nn.processes import ALONE, Processes
from momkd.training import FitOptions, fit
from momkd.types import Losses
from momkd.workflows.settings import Settings, parse_models
from tests.unit.shared_training import KINDS, do_all, do_all_and_part, do_together
from tests.unit.toy_training import OPTIONS, Toy, build, train_source, train_toy, val_source


class Scripted(Processes):
    """One of several processes whose others say what the test says."""

    def __init__(self, rank: int, *others: Any) -> None:
        self.rank, self.size, self.others = rank, len(others) + 1, list(others)

    def collect(self, word: Any) -> list[Any]:
        words = [*self.others]
        words.insert(self.rank, word)
        return words


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    return do_all(ALONE), do_together(tmp_path_factory.mktemp("together"), do_all_and_part)


def flat(result: Any, at: str = "") -> dict[str, torch.Tensor]:
    if isinstance(result, dict):
        parts = [flat(value, f"{at}/{key}") for key, value in result.items()]
    elif isinstance(result, list):
        parts = [flat(value, f"{at}/{i}") for i, value in enumerate(result)]
    else:
        return {at: torch.as_tensor(result)}
    return {key: value for part in parts for key, value in part.items()}


NAMES = ["fit", *KINDS, "abmil, single", "momkd ema, single"]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(name, results):
    alone, (first, second) = results
    wanted, found = flat(alone[name]), flat(first[name])
    assert wanted.keys() == found.keys()
    single = name.endswith("single")
    for key, tensor in wanted.items():
        # in single precision Adam makes a step of what rounding leaves of a gradient that is none
        if not (single and key.endswith("score.bias")):
            far = (found[key].double() - tensor.double()).abs()
            assert bool((far.nan_to_num() <= (1e-3 if single else 1e-6)).all()), key
            assert torch.equal(found[key].isnan(), tensor.isnan()), key
        same = found[key].numpy().tobytes() == flat(second[name])[key].numpy().tobytes()
        assert same, key


def test_something_was_learnt_and_revived(results):
    alone, _ = results
    assert alone["momkd ema"]["state"]["usage.revived"].sum() > 0
    assert len(alone["momkd ema"]["figures"]) == 10
    assert len(alone["abmil"]["figures"]) == 8


def test_every_divisible_model_is_among_them():
    named = {name for name, _, _ in KINDS.values()} | {"mean_logistic"}  # which takes no step
    assert named == {name for name, cls in MODELS.items() if cls.is_divisible}


def test_parts_are_consecutive_and_nearly_equal():
    for n in range(7):
        for size in (1, 2, 3):
            words = [None] * (size - 1)
            parts = [own_part(list(range(n)), Scripted(rank, *words)) for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            lengths = [len(part) for part in parts]
            assert lengths == sorted(lengths, reverse=True)
            assert max(lengths) - min(lengths) <= 1


def test_terms_are_weighed_by_those_that_feed_them():
    adder = Adder(Scripted(0, {"a": 3, "c": 2, "of_model": 0}), [])
    terms = {"a": torch.tensor(1.0), "b": torch.tensor(1.0), "of_model": torch.tensor(1.0)}
    weighed, names = adder.weigh(Losses(terms=terms, fed={"a": 1, "b": 2, "of_model": 0}))
    assert {k: float(v) for k, v in weighed.items()} == {"a": 0.25, "b": 1.0, "of_model": 0.5}
    assert names == ["a", "b", "of_model", "c"]
    # slides of others feed it, and none of this process
    adder = Adder(Scripted(0, {"memory": 2}), [])
    weighed, names = adder.weigh(Losses(terms={"memory": torch.tensor(1.0)}, fed={"memory": 0}))
    assert (weighed, names) == ({}, ["memory"])


def test_processes_that_came_apart_are_refused():
    require_equal(build(), ALONE, 3)
    with pytest.raises(IntegrityError, match=r"\[T20\].*2 processes hold different weights"):
        require_equal(build(), Scripted(0, "another digest"), 3)


def test_a_lost_process_is_named(results):
    word = results[1][0]["last word"]
    assert word.startswith("[T19] process 1 of 2: another process of this training is gone")


def test_another_number_of_processes_does_not_go_on(tmp_path: Path):
    train_toy(tmp_path)
    options = OPTIONS.model_copy(update={"devices": 2})
    store = CheckpointStore(tmp_path)
    model = build(Divisible)
    with pytest.raises(ConfigError, match=r"\[T14\].*fit.devices"):
        fit(model, train_source(), val_source(), options, seed=7, checkpoint=store, processes=TWO)


class Divisible(Toy):
    is_divisible = True


TWO = Scripted(0, None)


def test_what_cannot_be_shared_is_refused():
    def refusal(**kwargs: Any) -> str:
        options = OPTIONS.model_copy(update={"devices": kwargs.pop("devices", 2)})
        with pytest.raises(ConfigError) as caught:
            fit(build(), train_source(), val_source(), options, seed=7, **kwargs)
        return str(caught.value)

    assert "[G18] fit.devices: 2 processes wanted, and this call is made by 1" in refusal()
    assert "cannot share a batch of Toy" in refusal(processes=TWO)


def settings(**fit: Any) -> Settings:
    data = {"features": "f", "clinical": "c", "target": {"column": "x"}}
    data["target"] |= {"positive": ["p"], "negative": ["n"]}
    return parse_options(Settings, {"data": data, "fit": fit}, "momkd.yaml")


def test_settings_that_ask_for_too_much_are_refused():
    for name in ("mkd", "tdc"):
        with pytest.raises(ConfigError, match=rf"\[G18\] fit.devices: .*batch of {name}"):
            parse_models(name, settings(devices=2, batch_size=8))
    parse_models("momkd,abmil,rna_logistic", settings(devices=2, batch_size=8))
    with pytest.raises(MomkdError, match=r"\[G04\].*fit.devices: .*set fit.batch_size to 4"):
        settings(devices=4, batch_size=2)
    with pytest.raises(MomkdError, match=r"fit.devices: .*cannot share cuda:1"):
        settings(devices=2, batch_size=2, device="cuda:1")
    assert FitOptions().devices == 1


def test_too_few_devices_are_refused():
    n = torch.cuda.device_count() + 2
    with pytest.raises(MachineError, match=rf"\[T18\] cuda: {n} processes want a device each"):
        require_devices("cuda", n)
    require_devices("cpu", n)
