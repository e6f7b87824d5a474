"""Every model of the table as an ONNX graph: the same answer as torch's, whatever the size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from momkd.errors import ModelError
from momkd.models.table import MODELS
from momkd.predictor import Ensemble, Predictor
from momkd.serving.card import Card
from momkd.serving.onnx_graph import build_graph, open_session, require_exportable, run_session
from momkd.serving.traceable import UNTRACEABLE
from momkd.workflows.export_onnx import TOLERANCE, largest_difference
from tests.contract.test_models import DIM, DIMS, IDS, KINDS, build, make_bag, make_model

pytest.importorskip("onnxscript", reason="the extra onnx is absent")

SIZES = (1, 2, 9, 500)
# one build of each model in every run; what changes its equations beside these in the slow ones
FIRST = {next(i for i, kind in enumerate(KINDS) if kind[0] == name) for name in MODELS}
BUILDS = [
    pytest.param(kind, id=name, marks=[] if i in FIRST else [pytest.mark.slow])
    for i, (kind, name) in enumerate(zip(KINDS, IDS, strict=True))
    if kind[0] not in UNTRACEABLE
]


def make_ensemble(kind, n_members: int = 1) -> Ensemble:
    """Members that differ in weights and calibration."""
    members = []
    for number in range(n_members):
        model = build(kind, replace(DIMS, n_genes=None)).eval()
        model.load_state_dict(dict(make_model(kind).serving_state()))
        with torch.no_grad():
            for parameter in (*model.parameters(), *model.buffers()):
                if parameter.is_floating_point():
                    parameter.add_(0.01 * number)
        members.append(Predictor(model.requires_grad_(False), make_card(kind[0], number)))
    return Ensemble(members)


def make_card(name: str, number: int) -> Card:
    return Card(
        model=name,
        dims={"dim_in": DIM},
        task="HER2",
        class_names=("negative", "positive"),
        temperature=1.5 + number,
        offset=0.3 - number,
        thresholds={"max_f1": 0.4},
        threshold_rule="max_f1",
    )


def make_content(ensemble: Ensemble) -> bytes:
    models = [member.model for member in ensemble.members]
    program = build_graph(models, [member.card for member in ensemble.members])
    return program.model_proto.SerializeToString()


@pytest.mark.parametrize("kind", BUILDS)
def test_a_graph_answers_as_torch_does(kind):
    ensemble = make_ensemble(kind)
    content = make_content(ensemble)
    for n_tiles in SIZES:
        assert largest_difference(content, ensemble, [n_tiles]) <= TOLERANCE, n_tiles
    # one without any neighbour among its tiles, and embeddings in half precision made float32
    bag = make_bag(5)
    near = None
    if ensemble.members[0].model.needs_coordinates:
        near = np.full((5, bag.neighbours.shape[1]), -1)
        bag = type(bag)(
            slide_id="alone", embeddings=bag.embeddings, neighbours=torch.tensor(near).int()
        )
    found = run_session(open_session(content), bag.embeddings.numpy(), near)
    answer = ensemble.predict(bag).prediction
    np.testing.assert_allclose(found["probabilities"], answer.probabilities, atol=TOLERANCE)
    np.testing.assert_allclose(found["attention"], answer.attention, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in MODELS if n not in UNTRACEABLE])
def test_a_graph_answers_as_torch_does_on_20_000_tiles(name):
    ensemble = make_ensemble((name, None, {}))
    assert largest_difference(make_content(ensemble), ensemble, [20_000]) <= TOLERANCE


def test_members_of_a_run_are_calibrated_and_averaged_in_the_graph():
    ensemble = make_ensemble(("mean_logistic", None, {}), n_members=3)
    content = make_content(ensemble)
    assert largest_difference(content, ensemble, [9, 60]) <= TOLERANCE
    bag = make_bag(9)
    found = run_session(open_session(content), bag.embeddings.numpy())
    assert found["logits"].shape == (3, 2)
    alone = [member.predict(bag).probabilities[1] for member in ensemble.members]
    assert max(alone) - min(alone) > 0.01
    assert found["probabilities"][1] == pytest.approx(np.mean(alone), abs=1e-6)


@pytest.mark.parametrize("name", sorted(UNTRACEABLE))
def test_what_no_graph_can_hold_is_refused_with_the_operation(name):
    with pytest.raises(ModelError, match=rf"\[C14\] model {name}: .*--to hub"):
        require_exportable(make_card(name, 0))


def test_every_model_is_exported_or_refused():
    for name in set(MODELS) - set(UNTRACEABLE):
        require_exportable(make_card(name, 0))
    assert set(UNTRACEABLE) < set(MODELS)
