"""A training that is killed or stopped, and goes on, ends with the same bytes."""

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from momkd.checkpoint import CheckpointStore
from momkd.errors import ConfigError, InterruptedRunError
from momkd.training import fit
from tests.unit.toy_training import (
    OPTIONS,
    build,
    digest,
    train_source,
    train_to_file,
    train_toy,
    val_source,
)

# a server that has imported torch forks each run: real processes without the cost of starting one
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.unit.toy_training"])

# (point, n): just before the n-th fsync, rename, ...; with a save after every step, the third
# rename lies between the two of the second save
_KILL_POINTS = [
    ("prepare", 1),
    ("sample", 33),
    ("step", 14),
    ("fsync", 12),
    ("rename", 3),
    ("rename", 10),
    ("validation", 2),
    ("validation", 4),
]


def _run(folder: Path, kill_at: tuple[str, int] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    process = _processes.Process(target=train_to_file, args=(folder, kill_at))
    process.start()
    return process


def _finish(folder: Path) -> dict[str, str]:
    process = _run(folder)
    process.join(60)
    assert process.exitcode == 0
    result = json.loads((folder / "result.json").read_text())
    state = (folder / "checkpoint" / "state.ckpt").read_bytes()
    return {**result, "checkpoint": state.hex()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What an uninterrupted training gives, and how long it takes."""
    _finish(tmp_path_factory.mktemp("warm"))
    started = time.monotonic()
    result = _finish(tmp_path_factory.mktemp("whole"))
    return result, time.monotonic() - started


@pytest.mark.parametrize("kill_at", _KILL_POINTS, ids=lambda k: f"{k[0]}{k[1]}")
def test_killed_at_a_point(
    kill_at: tuple[str, int], tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    process = _run(tmp_path, kill_at)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, "the fault did not happen"
    assert not (tmp_path / "result.json").exists()
    assert _finish(tmp_path) == whole[0]


def _kill_at_random(
    folder: Path, whole: tuple[dict[str, str], float], n_kills: int, seed: int
) -> None:
    """Strike running trainings ``n_kills`` times; each goes on where it was, to the same end."""
    expected, whole_s = whole
    rng = random.Random(seed)
    struck, place = 0, folder / "0"
    while struck < n_kills:
        process = _run(place)
        time.sleep(rng.uniform(0.0, whole_s))
        process.kill()
        process.join(60)
        if (place / "result.json").exists():
            assert _finish(place) == expected
            place = folder / str(int(place.name) + 1)
        else:
            assert process.exitcode == -signal.SIGKILL
            struck += 1
    assert _finish(place) == expected


def test_killed_at_random(tmp_path: Path, whole: tuple[dict[str, str], float]) -> None:
    _kill_at_random(tmp_path, whole, n_kills=6, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_at_random_often(
    seed: int, tmp_path: Path, whole: tuple[dict[str, str], float]
) -> None:
    _kill_at_random(tmp_path, whole, n_kills=24, seed=seed)


def _stop_at(call: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**9))
    return lambda: next(calls) == call


def _train_until_stopped(folder: Path, every: int) -> Any:
    """Give what was fitted, or the refusal with which a training stopped."""
    try:
        return train_toy(folder, should_stop=_stop_at(every))
    except InterruptedRunError as stop:
        return stop


@pytest.mark.parametrize("every", [14, 23])
def test_stopped_again_and_again(every: int, tmp_path: Path) -> None:
    """Stops fall into steps, between epochs and into validation passes."""
    stops = []
    while isinstance(end := _train_until_stopped(tmp_path, every), InterruptedRunError):
        stops.append(end)
        assert len(stops) < 20, "it does not get on"
    assert len(stops) >= 3
    assert all(s.exit_code == 75 and s.problems[0].code == "T02" for s in stops)
    assert digest(end) == digest(train_toy())


def test_stopped_while_preparing(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train_toy(tmp_path, should_stop=_stop_at(2))
    assert CheckpointStore(tmp_path).load() is None
    assert digest(train_toy(tmp_path)) == digest(train_toy())


def test_a_stop_in_the_middle_of_an_epoch_is_kept(tmp_path: Path) -> None:
    rarely = OPTIONS.model_copy(update={"checkpoint_every_s": 1e6})
    with pytest.raises(InterruptedRunError):
        train_toy(tmp_path, rarely, should_stop=_stop_at(5 + 21 + 12 + 8))
    state = CheckpointStore(tmp_path).load()
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 3)
    assert digest(train_toy(tmp_path, rarely)) == digest(train_toy())


def test_the_damaged_newest_generation_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train_toy(tmp_path, should_stop=_stop_at(60))
    newest = tmp_path / "state.ckpt"
    newest.write_bytes(newest.read_bytes()[:-5])
    fitted = train_toy(tmp_path)
    assert any("damaged" in note for note in fitted.notes)
    assert digest(fitted) == digest(train_toy())


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train_toy(tmp_path)
    train, val = train_source(), val_source()
    again = fit(build(), train, val, OPTIONS, seed=7, checkpoint=CheckpointStore(tmp_path))
    assert train.n_read == val.n_read == 0
    assert digest(again) == digest(first)
    assert not again.model.training


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"fingerprint": {"cohort": "b", "torch": "1"}}, "cohort"),
        ({"fingerprint": {"torch": "1"}}, "cohort"),
        ({"fingerprint": {"cohort": "a", "torch": "1", "threads": "2"}}, "threads"),
        ({"seed": 8}, "seed"),
        ({"options": OPTIONS.model_copy(update={"lr": 0.5})}, "fit.lr"),
    ],
)
def test_another_training_is_refused(change: dict[str, Any], name: str, tmp_path: Path) -> None:
    given = {"options": OPTIONS, "seed": 7, "fingerprint": {"cohort": "a", "torch": "1"}}

    def train(**kwargs: Any) -> Any:
        store = CheckpointStore(tmp_path)
        return fit(build(), train_source(), val_source(), checkpoint=store, **kwargs)

    with pytest.raises(InterruptedRunError):
        train(**given, should_stop=_stop_at(40))
    with pytest.raises(ConfigError, match=rf"\[T14\].*changed since: {name};"):
        train(**(given | change))
    slower = OPTIONS.model_copy(update={"checkpoint_every_s": 5.0})
    assert digest(train(**(given | {"options": slower}))) == digest(train_toy())
