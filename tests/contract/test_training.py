"""Every model trains in the one loop, and an interrupted training ends with the same numbers."""

import pytest
import torch

from momkd import training
from momkd.checkpoint import CheckpointStore
from momkd.errors import ConfigError, InterruptedRunError
from momkd.models.table import MODELS
from momkd.nn.graph_attention import KernelChoice, choose_kernels
from momkd.training import FitOptions, fit
from momkd.workflows.settings import Settings, parse_models
from tests.contract.test_models import DIMS, Samples, build, every_model, make_sample

TRAIN = [make_sample(5 + i, i % 2, seed=i, rna=i % 5 != 0) for i in range(12)]
TRAIN += [make_sample(None, 0), make_sample(None, 1)]
VAL = [make_sample(5 + i, i % 2, seed=100 + i) for i in range(6)]
OPTIONS = FitOptions(epochs=3, batch_size=5, stop_on_collapse=False)


def train(kind, store=None, should_stop=None):
    torch.manual_seed(0)
    model = build(kind, DIMS)
    # the loss terms of a RNA-only sample reach histology models through no term at all
    train = TRAIN if model.needs_rna else TRAIN[:12]
    return fit(
        model,
        Samples(train),
        Samples(VAL),
        OPTIONS.model_copy(update={"kernels": kind[2].get("kernels", "auto")}),
        seed=3,
        checkpoint=store,
        should_stop=should_stop,
    )


@every_model
def test_an_interrupted_training_ends_the_same(kind, tmp_path):
    whole = train(kind)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        # late enough for a preparation that reads the samples several times
        return asked % 97 == 0

    for _ in range(50):
        try:
            fitted = train(kind, CheckpointStore(tmp_path / "checkpoint"), stop)
            break
        except InterruptedRunError:
            continue
    assert fitted.history == whole.history
    wanted = whole.model.state_dict()
    assert fitted.model.state_dict().keys() == wanted.keys()
    for name, tensor in fitted.model.state_dict().items():
        # NaN stands for a figure that was never computed
        same = torch.equal(tensor, wanted[name]) or bool((tensor != tensor).all())
        assert same, name


def test_another_backend_does_not_go_on(tmp_path):
    kind = ("momkd", "paper", {})
    calls = iter(range(10**6))
    with pytest.raises(InterruptedRunError):
        train(kind, CheckpointStore(tmp_path), lambda: next(calls) == 60)
    with pytest.raises(ConfigError, match=r"T14.*changed since: fit.kernels"):
        train(("momkd", "paper", {"kernels": "torch"}), CheckpointStore(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "kernels_of_fit", lambda *_: KernelChoice())
        if choose_kernels().backend == "torch":
            pytest.skip("numba is absent: there is one backend")
        with pytest.raises(ConfigError, match=r"T14.*changed since: kernels"):
            train(kind, CheckpointStore(tmp_path))
    fitted = train(kind, CheckpointStore(tmp_path))
    assert fitted.kernels == choose_kernels().identity
    assert fitted.model.encoder.kernels == choose_kernels()


def test_fast_products_train_and_serve_exact_ones():
    torch.manual_seed(0)
    model = build(("momkd", "paper", {}), DIMS)
    options = OPTIONS.model_copy(update={"precision": "fast"})
    fitted = fit(model, Samples(TRAIN), Samples(VAL), options, seed=3)
    assert fitted.kernels == choose_kernels(products="fast").identity
    assert fitted.model.encoder.kernels.products == "exact"
    exact = train(("momkd", "paper", {}))
    for ours, theirs in zip(fitted.history, exact.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.05)


def test_a_batch_too_small_for_what_a_model_learns_from_is_refused():
    target = {"column": "t", "positive": ["1"], "negative": ["0"]}
    settings = Settings(data={"features": ["f"], "clinical": "c.csv", "target": target})
    assert settings.fit.batch_size == 1
    with pytest.raises(ConfigError, match=r"G12.*fit.batch_size.*got 1, wanted 4.*mkd, tdc"):
        parse_models("all", settings)
    enough = settings.model_copy(update={"fit": FitOptions(batch_size=16)})
    assert len(parse_models("all", enough)) == len(MODELS)
