"""Each published layout loads to the same cases, genes and values, and says what it is."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from momkd.data.expression import RnaReading, read_expression
from momkd.data.rna.forms import recognise_rna
from momkd.data.rna.options import RnaOptions
from momkd.errors import DataError, IntegrityError
from tests.unit.rna_files import (
    CASES,
    GENES,
    IDS,
    LOGGED,
    SUMMARY,
    TPM,
    UNITS,
    aliquot,
    metadata,
    sample_sheet,
    star_name,
    star_text,
    turned_text,
    write_anndata,
    write_categorical,
    write_frame,
    write_star,
    write_strings,
)


@pytest.fixture(autouse=True)
def _read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process: tests/unit/test_child_processes.py is about the child."""

    def run_here(work: Callable[..., object], *args: object, timeout_s: float) -> object:
        return work(*args)

    monkeypatch.setattr("momkd.data.rna.annotated.run_in_child", run_here)


Made = tuple[Path, RnaOptions]


def star(folder: Path) -> Made:
    return write_star(folder / "star"), RnaOptions()


def star_zipped_with_sheet(folder: Path) -> Made:
    return write_star(folder / "star", zipped=True, sheet="tsv"), RnaOptions()


def star_with_the_sheet_beside_it(folder: Path) -> Made:
    write_star(folder / "star", sheet="none")
    (folder / "sheet.tsv").write_text(sample_sheet())
    return folder / "star", RnaOptions(rna_samples=folder / "sheet.tsv")


def xena_gdc(folder: Path) -> Made:
    names = [[i] for i in IDS]
    samples = [f"{c}-01A" for c in CASES]
    path = folder / "TCGA-BRCA.star_tpm.tsv.gz"
    text = turned_text(["Ensembl_ID"], names, samples, np.log2(TPM + 1), "\t")
    path.write_bytes(gzip.compress(text.encode()))
    probemap = ["id\tgene\tchrom\tchromStart\tchromEnd\tstrand"]
    probemap += [f"{i}\t{g}\tchr1\t1\t2\t+" for i, g in zip(IDS, GENES, strict=True)]
    (folder / "gencode.v36.annotation.gtf.gene.probemap").write_text("\n".join(probemap))
    return path, RnaOptions(gene_map=folder / "gencode.v36.annotation.gtf.gene.probemap")


def xena_legacy(folder: Path) -> Made:
    path = folder / "HiSeqV2"
    samples = [f"{c}-01" for c in CASES]
    path.write_text(turned_text(["sample"], [[g] for g in GENES], samples, np.log2(TPM + 1), "\t"))
    return path, RnaOptions()


def cbioportal(folder: Path) -> Made:
    path = folder / "data_mrna_seq_v2_rsem.txt"
    names = [[g, str(i)] for i, g in enumerate(GENES)]
    corner = ["Hugo_Symbol", "Entrez_Gene_Id"]
    path.write_text(turned_text(corner, names, [f"{c}-01" for c in CASES], TPM, "\t"))
    return path, RnaOptions()


def survpath(folder: Path) -> Made:
    path = folder / "rna_clean.csv"
    rows = [",".join(["", *GENES])]
    rows += [
        ",".join([c, *map(repr, v)]) for c, v in zip(CASES, np.log2(TPM + 1).tolist(), strict=True)
    ]
    path.write_text("\n".join(rows))
    return path, RnaOptions()


def mcat(folder: Path) -> Made:
    path = folder / "tcga_brca_all_clean.csv"
    header = ["", "case_id", "slide_id", "site", "is_female", "survival_months"]
    header += [*(f"{g}_rnaseq" for g in GENES), "TP53_mut", "TP53_cnv"]
    rows = [",".join(header)]
    for i, (c, v) in enumerate(zip(CASES, np.log2(TPM + 1).tolist(), strict=True)):
        slide = f"{c}-01Z-00-DX1.svs"
        rows.append(",".join([str(i), c, slide, c[5:7], "1", "10.5", *map(repr, v), "1", "-2"]))
    path.write_text("\n".join(rows))
    return path, RnaOptions()


def momkd_table(folder: Path) -> Made:
    path = folder / "TCGA_gene.csv"
    text = turned_text([""], [[g] for g in GENES], [f"{c}-01" for c in CASES], TPM, ",")
    path.write_text(text)
    return path, RnaOptions(rna_scale="tpm")


def momkd_vectors(folder: Path) -> Made:
    place = folder / "vectors"
    place.mkdir()
    for case, values in zip(CASES, LOGGED, strict=True):
        np.save(place / f"{case}-01A.npy", values)
    (folder / "genes.txt").write_text("# in the order of the vectors\n" + "\n".join(GENES))
    return place, RnaOptions(gene_list=folder / "genes.txt")


def anndata(form: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        path = folder / "rna.h5ad"
        with h5py.File(path, "w") as file:
            write_anndata(file, TPM, [f"{c}-01A" for c in CASES], form)
        return path, RnaOptions(rna_scale="tpm")

    make.__name__ = f"anndata_{form}"
    return make


def mudata(folder: Path) -> Made:
    path = folder / "all.h5mu"
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "MuData"
        write_frame(file, "obs", CASES)
        write_anndata(file.create_group("mod/rna"), TPM, CASES, "csr")
        write_anndata(file.create_group("mod/protein"), TPM * 0, CASES, "dense")
    return path, RnaOptions(rna_scale="tpm")


FORMS: list[tuple[Callable[[Path], Made], str]] = [
    (star, "GDC STAR"),
    (star_zipped_with_sheet, "GDC STAR"),
    (star_with_the_sheet_beside_it, "GDC STAR"),
    (xena_gdc, "Xena GDC"),
    (xena_legacy, "Xena legacy"),
    (cbioportal, "cBioPortal"),
    (survpath, "SurvPath"),
    (mcat, "MCAT"),
    (momkd_table, "MoMKD TCGA_gene"),
    (momkd_vectors, "MoMKD vectors"),
    (anndata("dense"), "AnnData"),
    (anndata("csr"), "AnnData"),
    (anndata("csc"), "AnnData"),
    (mudata, "AnnData/MuData"),
]


@pytest.mark.parametrize(("make", "name"), FORMS, ids=[m.__name__ for m, _ in FORMS])
def test_every_form_loads_to_the_same(
    tmp_path: Path, make: Callable[[Path], Made], name: str
) -> None:
    path, options = make(tmp_path)
    reading = read_expression(path, options)
    order = [reading.expression.case_ids.index(c) for c in CASES]
    assert sorted(order) == list(range(6))
    assert reading.expression.genes == tuple(GENES)
    assert reading.expression.scale == "log2"
    assert np.allclose(reading.expression.values[order], LOGGED, rtol=1e-6)
    assert reading.form.startswith(name)
    assert reading.why
    assert reading.notes[0].startswith(f"RNA: {reading.form}")


def star_reading(tmp_path: Path, **options: object) -> RnaReading:
    return read_expression(tmp_path / "star", RnaOptions.model_validate(options))


def test_star_says_what_it_left_out_and_takes_counts_if_asked(tmp_path: Path) -> None:
    write_star(tmp_path / "star")
    text = " ".join(star_reading(tmp_path).notes)
    assert f"4 summary rows a file left out: {', '.join(SUMMARY)}" in text
    assert "5 genes named by the table itself" in text
    counts = star_reading(tmp_path, rna_scale="counts").expression
    assert np.allclose(counts.values, np.log2(np.round(TPM * 3) + 1))
    ids = star_reading(tmp_path, gene_ids="ensembl").expression.genes
    assert ids == tuple(i.split(".")[0] for i in IDS)


def test_star_ids_that_share_a_symbol_are_summed_and_listed(tmp_path: Path) -> None:
    write_star(tmp_path / "star")
    genes = ["ERBB2", "PGR", "PGR", "TP53", "ACTB"]
    ids = [*IDS[:4], "ENSG00000002586.20_PAR_Y"]
    for unit, tpm in zip(UNITS, TPM, strict=True):
        (tmp_path / "star" / unit / star_name(unit)).write_text(star_text(tpm, ids, genes))
    reading = star_reading(tmp_path)
    assert reading.expression.genes == ("ERBB2", "PGR", "TP53")
    wanted = np.log2(TPM[:, 1] + TPM[:, 2] + 1)
    assert np.allclose(reading.expression.values[:, 1], wanted)
    assert {(c.name, c.gene) for c in reading.gene_changes} == {
        ("ENSG00000082175", "PGR"),
        ("ENSG00000091831", "PGR"),
        ("ENSG00000002586.20_PAR_Y", ""),
    }


@pytest.mark.parametrize(
    ("sheet", "needle"), [("none", "rna_samples"), ("manifest", "gdc_manifest")]
)
def test_star_files_without_a_case_are_refused(tmp_path: Path, sheet: str, needle: str) -> None:
    write_star(tmp_path / "star", sheet=sheet)
    with pytest.raises(DataError, match=rf"O04.*no case for 6 of 6.*{needle}"):
        star_reading(tmp_path)


def test_star_files_that_are_wrong(tmp_path: Path) -> None:
    write_star(tmp_path / "star")
    first, second, third, fourth = (tmp_path / "star" / u / star_name(u) for u in UNITS[1:5])
    first.write_text(star_text(TPM[1][:4], IDS[:4], GENES[:4]))
    second.write_text(star_text(TPM[2]).replace(f"\t{TPM[2][3]}\t", "\tx\t"))
    third.write_text(star_text(TPM[3])[:-20])
    fourth.write_bytes(gzip.compress(star_text(TPM[4]).encode())[:100])
    with pytest.raises(DataError) as refused:
        star_reading(tmp_path)
    found = {(p.code, Path(p.where).name) for p in refused.value.problems}
    assert found == {
        ("O27", first.name),
        ("O17", second.name),
        ("O16", third.name),
        ("O16", fourth.name),
    }
    (tmp_path / "one.tsv").write_text(star_text(TPM[0]))
    with pytest.raises(DataError, match=r"O16.*single aliquot.*folder"):
        read_expression(tmp_path / "one.tsv")


def test_star_cases_of_other_projects_and_their_normals(tmp_path: Path) -> None:
    write_star(tmp_path / "star", sheet="none")
    entries = metadata()
    kinds = ["Primary Tumor", "Solid Tissue Normal", "Metastatic", "Primary Tumor", "", "Xenograft"]
    for i, (entry, kind) in enumerate(zip(entries, kinds, strict=True)):
        del entry["associated_entities"]
        sample = {"submitter_id": f"C3L-{i // 2:05d}-{i:02d}", "sample_type": kind}
        entry["cases"] = [{"submitter_id": f"C3L-{i // 2:05d}", "samples": [sample]}]
    (tmp_path / "star" / "files.json").write_text(json.dumps({"data": {"hits": entries}}))
    reading = star_reading(tmp_path)
    assert reading.expression.case_ids == ("C3L-00000", "C3L-00001", "C3L-00002")
    assert {(s.id, s.code) for s in reading.left_out} == {
        ("C3L-00000-01", "O03"),
        ("C3L-00001-02", "O03"),
        ("C3L-00002-05", "O03"),
    }


def test_the_scale_of_cbioportal_stands_in_its_name(tmp_path: Path) -> None:
    path, _ = cbioportal(tmp_path)
    scores = tmp_path / "data_mrna_seq_v2_rsem_zscores_ref_all_samples.txt"
    names = [[g, str(i)] for i, g in enumerate(GENES)]
    centred = np.round(LOGGED - LOGGED.mean(axis=0), 3).astype(float)
    corner = ["Hugo_Symbol", "Entrez_Gene_Id"]
    scores.write_text(turned_text(corner, names, [f"{c}-01" for c in CASES], centred, "\t"))
    reading = read_expression(scores)
    assert reading.expression.scale == "zscore"
    assert np.allclose(reading.expression.values, centred, atol=1e-6)
    path.write_text(path.read_text().replace(repr(float(TPM[2, 1])), "-4.0"))
    with pytest.raises(DataError, match="O07"):
        read_expression(path)
    path.write_text(path.read_text().replace("-4.0", "NA"))
    with pytest.raises(DataError, match=r"O06.*impute"):
        read_expression(path)
    gaps = read_expression(path, RnaOptions(impute="train_median")).expression
    assert gaps.has_missing
    assert np.isnan(gaps.values[2, 1])
    assert np.isnan(gaps.values).sum() == 1


def test_cbioportal_symbols_that_repeat_or_are_blank(tmp_path: Path) -> None:
    path = tmp_path / "data_mrna_seq_v2_rsem.txt"
    names = [["ERBB2", "1"], ["PGR", "2"], ["ERBB2", "3"], ["", "4"], ["ACTB", "5"]]
    corner = ["Hugo_Symbol", "Entrez_Gene_Id"]
    path.write_text(turned_text(corner, names, [f"{c}-01" for c in CASES], TPM, "\t"))
    with pytest.raises(DataError, match=r"O13.*ERBB2"):
        read_expression(path)
    reading = read_expression(path, RnaOptions(duplicate_genes="mean"))
    assert reading.expression.genes == ("ERBB2", "PGR", "ACTB")
    wanted = np.log2((TPM[:, 0] + TPM[:, 2]) / 2 + 1)
    assert np.allclose(reading.expression.values[:, 0], wanted)
    assert any("1 rows without a gene's name" in n for n in reading.notes)


def test_xena_is_never_logged_twice(tmp_path: Path) -> None:
    path, _ = xena_gdc(tmp_path)
    reading = read_expression(path)
    assert reading.expression.genes == tuple(i.split(".")[0] for i in IDS)
    assert "scale log2 (by its form)" in reading.notes[1]
    linear = turned_text(["Ensembl_ID"], [[i] for i in IDS], CASES, TPM, "\t")
    path.write_bytes(gzip.compress(linear.encode()))
    with pytest.raises(DataError, match="O08"):
        read_expression(path)


def test_vectors_need_names_of_genes(tmp_path: Path) -> None:
    place, options = momkd_vectors(tmp_path)
    with pytest.raises(DataError, match=r"O26.*gene_list.*one a line"):
        read_expression(place)
    (tmp_path / "genes.txt").write_text("\n".join(GENES[:4]))
    with pytest.raises(DataError, match=r"O26.*5 values, genes.txt 4"):
        read_expression(place, options)
    (tmp_path / "genes.txt").write_text("\n".join(GENES))
    np.save(place / "patient-7.npy", LOGGED[0])
    with pytest.raises(DataError, match=r"O04.*patient-7"):
        read_expression(place, options)
    (place / "patient-7.npy").unlink()
    np.save(place / f"{CASES[0]}-01A.npy", LOGGED[0][:3])
    with pytest.raises(DataError, match=r"O27.*2 lengths"):
        read_expression(place, options)
    np.save(place / f"{CASES[0]}-01A.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(IntegrityError, match=r"O22.*pickled"):
        read_expression(place, options)


def test_vectors_whose_header_lies(tmp_path: Path) -> None:
    place, options = momkd_vectors(tmp_path)
    path = place / f"{CASES[1]}-01A.npy"
    whole = path.read_bytes()
    huge = whole.replace(b"(5,), }          ", b"(500000000000,), }")
    broken = (whole[:-4], whole[:9], b"", b"\x93NUMPY\x09\x00" + whole[8:], huge)
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(DataError, match="O16"):
            read_expression(place, options)
    np.save(path, np.array(["a", "b"]))
    with pytest.raises(DataError, match="O17"):
        read_expression(place, options)


def test_anndata_with_cases_types_and_symbols_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        write_anndata(file, np.log1p(TPM), [f"s{i}" for i in range(6)], "csr")
        write_categorical(file["obs"], "patient_id", [*CASES[:5], CASES[0]])
        write_categorical(file["obs"], "sample_type", ["01"] * 5 + ["Solid Tissue Normal"])
        del file["var"]
        write_frame(file, "var", IDS)
        write_strings(file["var"], "gene_name", GENES)
        file["uns"].create_group("log1p")
    reading = read_expression(path)
    assert reading.expression.case_ids == tuple(CASES[:5])
    assert reading.expression.genes == tuple(GENES)
    assert np.allclose(reading.expression.values, LOGGED[:5], rtol=1e-6)
    assert [(s.id, s.code) for s in reading.left_out] == [("s5", "O03")]
    assert any("log1p" in n for n in reading.notes)


def _indices_beyond(file: h5py.File) -> None:
    file["X/indices"][0] = 77


def _indptr_backwards(file: h5py.File) -> None:
    file["X/indptr"][2] = 1000


def _short_data(file: h5py.File) -> None:
    data = file["X/data"][:-1]
    del file["X/data"]
    file["X/data"] = data


def _vast_shape(file: h5py.File) -> None:
    file["X"].attrs["shape"] = np.array([10**9, 10**9])


def _no_index(file: h5py.File) -> None:
    del file["obs/_index"]


def _no_obs(file: h5py.File) -> None:
    del file["obs"]


def _infinite(file: h5py.File) -> None:
    file["X/data"][0] = np.inf


def _elsewhere(file: h5py.File) -> None:
    del file["X/data"]
    file["X/data"] = h5py.ExternalLink("other.h5", "/data")


def _softly(file: h5py.File) -> None:
    del file["var"]
    file["var"] = h5py.SoftLink("/obs")


def _raw_storage(file: h5py.File) -> None:
    del file["X"]
    secret = Path(file.filename).with_name("secret.raw")
    secret.write_bytes(b"x" * 120)
    external = [(str(secret), 0, 120)]
    file.create_dataset("X", shape=(6, 5), dtype="f4", external=external)


@pytest.mark.parametrize(
    ("spoil", "kind", "code"),
    [
        (_indices_beyond, DataError, "O28"),
        (_indptr_backwards, DataError, "O28"),
        (_short_data, DataError, "O28"),
        (_vast_shape, DataError, "O28"),
        (_no_index, DataError, "O28"),
        (_no_obs, DataError, "O28"),
        (_infinite, DataError, "O17"),
        (_elsewhere, IntegrityError, "F22"),
        (_softly, IntegrityError, "F22"),
        (_raw_storage, IntegrityError, "F21"),
    ],
)
def test_hostile_and_damaged_anndata(
    tmp_path: Path, spoil: Callable[[h5py.File], None], kind: type[Exception], code: str
) -> None:
    path, _ = anndata("csr")(tmp_path)
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(kind, match=code):
        read_expression(path)


def test_mudata_has_to_say_which_modality(tmp_path: Path) -> None:
    path = tmp_path / "a.h5mu"
    with h5py.File(path, "w") as file:
        write_anndata(file.create_group("mod/one"), TPM, CASES, "dense")
        write_anndata(file.create_group("mod/two"), TPM * 2, CASES, "dense")
    with pytest.raises(DataError, match=r"O28.*one, two.*rna_key"):
        read_expression(path)
    reading = read_expression(path, RnaOptions(rna_key="two", rna_scale="tpm"))
    assert np.allclose(reading.expression.values, np.log2(TPM * 2 + 1))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DataError, match=r"O16.*STAR files.*npy"):
        recognise_rna(tmp_path)
    with pytest.raises(DataError, match=r"O16.*No such file"):
        recognise_rna(tmp_path / "absent.tsv")


def test_several_aliquots_in_star_follow_the_published_rule(tmp_path: Path) -> None:
    write_star(tmp_path / "star", sheet="none")
    entries = metadata()
    names = [aliquot(CASES[0], plate=p) for p in ("A12P", "A13Q", "A00Z")]
    names += [aliquot(CASES[1], analyte="T", plate="B999"), aliquot(CASES[1]), aliquot(CASES[2])]
    for entry, name in zip(entries, names, strict=True):
        entry["associated_entities"] = [{"entity_submitter_id": name, "entity_type": "aliquot"}]
    (tmp_path / "star" / "m.json").write_text(json.dumps(entries))
    reading = star_reading(tmp_path)
    assert np.allclose(reading.expression.values, LOGGED[[1, 4, 5]])
    assert {(s.id, s.case_id, s.code) for s in reading.left_out} == {
        (names[0], CASES[0], "O02"),
        (names[2], CASES[0], "O02"),
        (names[3], CASES[1], "O02"),
    }
    assert all(names[1] in s.reason for s in reading.left_out if s.case_id == CASES[0])
