"""Trainings on a CUDA device: every model, every precision, the same bytes again."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import momkd
from momkd.data.graph import nearest_neighbours
from momkd.models.table import MODELS, build_model
from momkd.nn.graph_attention import choose_kernels
from momkd.types import Bag, Dims, TileGrid
from tests.journeys.run_momkd import momkd as command_line
from tests.journeys.test_interruption import _bytes_of, _wait_for_training
from tests.journeys.test_several_processes import _answer, _start

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

ON_CARD = ("fit.device=cuda",)


def trained(cohort: Path, run: Path, model: str = "momkd", *changes: str) -> dict[str, str]:
    momkd.train([cohort / "momkd.yaml"], run, model=model, set_=(*ON_CARD, *changes))
    return _bytes_of(run)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_there(model: str, made_cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(made_cohort, run, model, "fit.epochs=2")
    momkd.predict(run, [made_cohort / "features"], tmp_path / "scores.csv")
    rows = (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 40
    assert "nan" not in "".join(rows)


@pytest.mark.parametrize("precision", ["32-true", "fast", "bf16-mixed"])
def test_the_same_bytes_again_and_without_a_cache(
    precision: str, made_cohort: Path, tmp_path: Path
) -> None:
    change = f"fit.precision={precision}"
    first = trained(made_cohort, tmp_path / "first", "momkd", change)
    again = trained(made_cohort, tmp_path / "again", "momkd", change, "fit.device_cache_gib=0")
    different = {name for name in first if first[name] != again.get(name)}
    assert not {name for name in different if not name.endswith((".yaml", "run.json"))}


def test_a_killed_training_ends_with_the_same_bytes(made_cohort: Path, tmp_path: Path) -> None:
    config, run = made_cohort / "momkd.yaml", tmp_path / "run"
    changes = (*ON_CARD, "fit.epochs=12", "fit.checkpoint_every_s=0.05")
    more = [part for change in changes for part in ("--set", change)]
    process = _start(config, run, more)
    assert _wait_for_training(process, run), _answer(process).err
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert _answer(_start(config, run, more)).code == 0
    assert _answer(_start(config, tmp_path / "whole", more)).code == 0
    assert _bytes_of(run) == _bytes_of(tmp_path / "whole")


def test_more_devices_than_there_are(made_cohort: Path, tmp_path: Path) -> None:
    n = torch.cuda.device_count() + 1
    answer = command_line(
        *("train", "-c", made_cohort / "momkd.yaml", "-o", tmp_path / "run"),
        *("--set", "fit.device=cuda", "--set", f"fit.batch_size={n}", "--devices", n),
    )
    assert answer.code != 0
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("model", [m for m in MODELS if m != "dtfd_mil"])  # draws pseudo-bags
def test_a_card_scores_as_a_cpu_does(model: str) -> None:
    rng = np.random.default_rng(0)
    places = rng.permutation(64 * 64)[:900].astype(np.int64)
    coords_px0 = 256 * np.stack([places // 64, places % 64], axis=1)
    bag = Bag(
        slide_id="a",
        embeddings=torch.from_numpy(rng.standard_normal((900, 32)).astype(np.float32)),
        grid=TileGrid(slide_id="a", coords_px0=coords_px0, tile_px0=256.0),
        neighbours=torch.from_numpy(nearest_neighbours(coords_px0, 8)),
    )
    torch.manual_seed(0)
    built = build_model(model, Dims(dim_in=32, n_classes=2, n_genes=None), None, {}).eval()
    found = []
    for device in ("cpu", "cuda"):
        built.use_kernels(choose_kernels(device=device))
        torch.manual_seed(1)
        with torch.no_grad():
            found.append(built.to(device)(bag.to(device)).logits.cpu())
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
