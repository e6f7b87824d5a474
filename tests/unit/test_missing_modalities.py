"""Patients who miss a modality: joined, left out by name, or taught from by each model's rule."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from momkd.data.aliases import merge_aliases, read_aliases, rename_rows
from momkd.data.clinical import ClinicalRow, ClinicalTable
from momkd.data.matching import match
from momkd.data.pairing import keep_paired
from momkd.errors import DataError
from momkd.fitting.sampling import places_to_visit
from momkd.models.table import MODELS, build_model
from momkd.training import FitOptions, fit
from momkd.types import Expression
from tests.contract.test_models import DIMS, N_GENES, SMALL, Samples, make_sample

PAIRED = [make_sample(5 + i, i % 2, seed=i) for i in range(10)]
SLIDE_ONLY = [make_sample(4 + i, i % 2, seed=40 + i, rna=False) for i in range(4)]
RNA_ONLY = [make_sample(None, i % 2, seed=80 + i) for i in range(4)]
VAL = [make_sample(5 + i, i % 2, seed=100 + i) for i in range(6)]


def row(case_id: str, *slides: str, label: int | None = 0, site: str | None = None) -> ClinicalRow:
    why = None if label is not None else "HER2 is blank"
    return ClinicalRow(case_id=case_id, slide_ids=slides, label=label, site=site, why_unknown=why)


def table(*rows: ClinicalRow) -> ClinicalTable:
    return ClinicalTable(path=Path("clinical.csv"), rows=rows, names_slides=True, notes=())


class TestPairedOnly:
    """`data.paired_only` leaves nothing out without a word."""

    def test_each_lack_has_its_row(self) -> None:
        clinical = table(row("A", "a"), row("B", "b1", "b2", label=1), row("C"))
        found = match(clinical, ["a", "b1", "b2"], {}, ["A", "C"])
        kept = keep_paired(found)
        assert [c.case_id for c in kept.cases] == ["A"]
        assert [(d.kind, d.id, d.code) for d in kept.dropped] == [
            ("case", "B", "S21"), ("slide", "b1", "S21"), ("slide", "b2", "S21"),
            ("case", "C", "S21"), ("rna", "C", "S21"),
        ]  # fmt: skip
        assert kept.dropped[0].reason == "no RNA (data.paired_only)"
        assert kept.dropped[3].reason == "no slide (data.paired_only)"
        left = {k: sum(d.kind == k for d in kept.dropped) for k in kept.listed}
        used = {"case": 1, "slide": 1, "rna": 1}
        assert kept.listed == {k: used[k] + left[k] for k in used}


class TestAliases:
    """Two ids of one patient become one case before anything is split."""

    def write(self, folder: Path, text: str) -> Path:
        path = folder / "aliases.csv"
        path.write_text(text)
        return path

    def test_rows_slides_and_rna_come_together(self, tmp_path: Path) -> None:
        aliases = read_aliases(self.write(tmp_path, "alias,case_id\nB,A\nZ,Y\n"))
        assert aliases == {"B": "A", "Z": "Y"}
        clinical = merge_aliases(
            table(row("B", "b", label=1, site="S"), row("A", "a", label=None), row("Z", "z")),
            aliases,
        )
        assert {r.case_id: (r.slide_ids, r.label, r.site) for r in clinical.rows} == {
            "A": (("a", "b"), 1, "S"),
            "Y": (("z",), 0, None),
        }
        assert clinical.notes == ("clinical: 1 rows of aliases joined with their case",)
        rna = Expression(case_ids=("B", "Z", "A"), genes=("G",), values=np.float32([[1], [2], [3]]))
        renamed, dropped = rename_rows(rna, aliases)
        assert dict(zip(renamed.case_ids, renamed.values[:, 0], strict=True)) == {"A": 3, "Y": 2}
        assert [(d.id, d.case_id, d.code) for d in dropped] == [("B", "A", "K12")]
        found = match(clinical, ["a", "b", "z"], {}, renamed.case_ids, aliases=aliases)
        assert {c.case_id: c.slide_ids for c in found.cases} == {"A": ("a", "b"), "Y": ("z",)}

    def test_slides_matched_by_name_find_their_patient(self) -> None:
        clinical = replace(table(row("TCGA-AA-0001")), names_slides=False)
        slides = ["TCGA-AA-0001-01Z-00-DX1", "TCGA-BB-0002-01Z-00-DX1"]
        found = match(clinical, slides, {}, [], aliases={"TCGA-BB-0002": "TCGA-AA-0001"})
        assert found.cases[0].slide_ids == tuple(slides)

    def test_ids_that_disagree(self) -> None:
        with pytest.raises(DataError, match=r"\[L06\].*alias B have label 0 and 1"):
            merge_aliases(table(row("A", "a"), row("B", "b", label=1)), {"B": "A"})

    @pytest.mark.parametrize(
        ("text", "needle"),
        [
            ("alias,case_id\nB,A\nB,C\n", r"K15.*row 3.*'B' is said to be 'C' and 'A'"),
            ("alias,case_id\nA,A\n", r"K15.*'A' is said to be 'A'"),
            ("alias,case_id\nB,A\nA,C\n", r"K15.*'A', itself an alias"),
            ("id,other\nB,A\n", r"L07.*wanted alias and case_id"),
        ],
    )
    def test_a_table_at_fault(self, tmp_path: Path, text: str, needle: str) -> None:
        with pytest.raises(DataError, match=needle):
            read_aliases(self.write(tmp_path, text))


def build(name: str, **options: object):
    torch.manual_seed(0)
    return build_model(name, DIMS, options={**SMALL.get(name, {}), **options})


def state(model: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith(prefix)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one)


def train(name: str, samples, batch_size: int = 4, **options: object):
    budget = FitOptions(epochs=1, batch_size=batch_size, lr=1e-2, stop_on_collapse=False)
    return fit(build(name, **options), Samples(samples), Samples(VAL), budget, seed=0)


def test_steps_visit_what_feeds_a_term() -> None:
    keys = Samples([*PAIRED[:2], RNA_ONLY[0], SLIDE_ONLY[0]]).keys
    assert places_to_visit(keys, rna_alone=True) == [0, 1, 2, 3]
    assert places_to_visit(keys, rna_alone=False) == [0, 1, 3]


@pytest.mark.parametrize("name", [n for n, cls in MODELS.items() if cls.needs_rna])
def test_a_model_says_truly_whether_rna_alone_feeds_its_steps(name: str) -> None:
    model = build(name)
    model.prepare(Samples([*PAIRED, *RNA_ONLY]))
    feeds = bool(model.losses(RNA_ONLY[:1]).terms)
    assert model.steps_on_rna_alone == feeds


@pytest.mark.parametrize("name", [n for n, cls in MODELS.items() if cls.needs_rna])
def test_any_mixture_of_patients_trains(name: str) -> None:
    # the smallest batches a model takes: some would hold cases with RNA alone and nothing else
    size = MODELS[name].min_batch
    fitted = train(name, [*PAIRED, *SLIDE_ONLY, *RNA_ONLY * 3], batch_size=size)
    assert np.isfinite([v for k, v in fitted.history[0].items() if k.startswith("loss")]).all()


@pytest.mark.parametrize("name", [n for n, cls in MODELS.items() if cls.needs_rna])
def test_slides_alone_teach_the_student_and_leave_rna_parts_as_they_were(name: str) -> None:
    """What ``momkd+no_rna`` runs: the same student, no RNA term."""
    slides = [replace(s, rna=None) for s in PAIRED]
    before = build(name).state_dict()
    fitted = train(name, slides)
    after = fitted.model.state_dict()
    rna_parts = {
        "momkd": ("rna_", ),
        "mkd": ("rna_teacher", "pair_teacher"),
        "g_hanet": ("genes.heads",),
        "tdc": ("teacher.rna_net", "teacher.fusion"),
    }[name]  # fmt: skip
    for key, tensor in before.items():
        if key.startswith(rna_parts):
            assert torch.equal(tensor, after[key]), key
    assert not all(torch.equal(v, after[k]) for k, v in before.items())


def test_momkd_rna_alone_moves_memory_and_rna_tower_and_no_tile_encoder() -> None:
    model = build("momkd")
    model.losses(RNA_ONLY[:2]).total.backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"memory", "rna_encoder", "rna_decoder", "rna_projection"}
    moving = build("momkd", memory_update="ema", ema_momentum=0.5)
    before = state(moving, "memory")
    moving.after_step(moving.losses(RNA_ONLY[:2]))
    assert not same(before, state(moving, "memory"))


def test_momkd_a_slide_alone_feeds_everything_but_the_rna_terms() -> None:
    model = build("momkd")
    model.losses(SLIDE_ONLY[:2]).total.backward()
    untouched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None}
    assert untouched == {"rna_encoder", "rna_decoder", "rna_projection"}


def test_mkd_rna_alone_teaches_the_rna_teacher_only() -> None:
    model = build("mkd")
    model.losses(RNA_ONLY[:2]).total.backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"rna_teacher"}


def test_mkd_unpaired_samples_change_no_relation_between_pairs() -> None:
    model = build("mkd").eval()
    alone = model.losses(PAIRED[:4]).terms
    mixed = model.losses([*PAIRED[:4], *SLIDE_ONLY, *RNA_ONLY]).terms
    for name in ("relations", "divergence", "alignment", "orthogonality", "ce_pair"):
        torch.testing.assert_close(alone[name], mixed[name])


def test_tdc_rna_alone_teaches_the_teachers_rna_net_and_the_student_nothing() -> None:
    """All stages, with and without the unpaired: the teacher hears them, no step does."""
    teacher = {"teacher": {"epochs": 1, "batch_size": 4, "masking": False}}
    options = {**SMALL["tdc"], **teacher}

    def prepared(samples):
        torch.manual_seed(0)
        model = build_model("tdc", DIMS, options=options)
        torch.manual_seed(1)
        model.prepare(Samples(samples))
        return model

    rna_only = prepared(RNA_ONLY * 2 + [replace(s, rna=None) for s in PAIRED[:2]])
    fresh = build_model_of(options)
    assert not same(state(fresh, "teacher.rna_net"), state(rna_only, "teacher.rna_net"))
    assert same(state(fresh, "teacher.fusion"), state(rna_only, "teacher.fusion"))
    assert same(state(fresh, "student"), state(rna_only, "student"))
    assert rna_only.losses(RNA_ONLY).terms == {}


def build_model_of(options: dict):
    torch.manual_seed(0)
    return build_model("tdc", DIMS, options=options)


def test_g_hanet_rna_alone_chooses_and_groups_genes() -> None:
    """A gene that differs between the classes only in cases without a slide becomes a target."""
    rng = torch.Generator().manual_seed(0)
    cases = []
    for i, sample in enumerate([*RNA_ONLY] * 10):
        rna = torch.randn(N_GENES, generator=rng)
        rna[3] += 5.0 * sample.label
        cases.append(replace(sample, case_id=f"r{i}", rna=rna))
    dull = [replace(s, rna=torch.randn(N_GENES, generator=rng)) for s in PAIRED]
    without, with_ = build("g_hanet"), build("g_hanet")
    without.prepare(Samples(dull))
    with_.prepare(Samples([*dull, *cases]))

    def targets(model) -> set[int]:
        return set(model.genes.order[model.genes.is_target].tolist())

    assert 3 in targets(with_)
    assert not torch.equal(without.genes.order, with_.genes.order) or targets(without) != targets(
        with_
    )
