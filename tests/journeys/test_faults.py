"""Each faulty input as a user meets it: a real process, one clear line, an exit code.

The catalogue: feature files F, RNA tables O, clinical tables L, folds K, configuration G.
"""

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from momkd.errors import MomkdError
from momkd.workflows.check import check
from tests.journeys.run_momkd import Answer, momkd, refused

Spoil = Callable[[Path], None]


def _slides(cohort: Path) -> list[Path]:
    return sorted((cohort / "features").glob("*.h5"))


def _rewrite(path: Path, **changed: object) -> None:
    """Replace datasets of a feature file, keeping the attributes of those that stay."""
    with h5py.File(path, "r+") as file:
        for name, value in changed.items():
            attributes = dict(file[name].attrs) if name in file else {}
            if name in file:
                del file[name]
            if value is not None:
                file.create_dataset(name, data=value).attrs.update(attributes)


def _features(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["features"][:]


def _coords(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["coords"][:]


def _truncate(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _empty(cohort: Path) -> None:
    _slides(cohort)[0].write_bytes(b"")


def _gzipped(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.write_bytes(gzip.compress(path.read_bytes()))


def _html(cohort: Path) -> None:
    _slides(cohort)[0].write_text("<!DOCTYPE html><html>login</html>")


def _lfs(cohort: Path) -> None:
    _slides(cohort)[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def _wrong_key(cohort: Path) -> None:
    path = _slides(cohort)[0]
    with h5py.File(path, "r+") as file:
        file.move("features", "feats")


def _group(cohort: Path) -> None:
    path = _slides(cohort)[0]
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_group("features")


def _scalar(cohort: Path) -> None:
    _rewrite(_slides(cohort)[0], features=np.float32(1))


def _text_features(cohort: Path) -> None:
    _rewrite(_slides(cohort)[0], features=np.array([b"a", b"b"]))


def _nan(cohort: Path) -> None:
    path = _slides(cohort)[0]
    values = _features(path)
    values[3, 1] = np.nan
    _rewrite(path, features=values)


def _half_infinite(cohort: Path) -> None:
    path = _slides(cohort)[0]
    values = _features(path).astype(np.float16)
    values[0, 0] = np.inf
    _rewrite(path, features=values)


def _width(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, features=_features(path)[:, :20])


def _lengths(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, coords=_coords(path)[:-1])


def _negative_coords(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, coords=_coords(path) - 10_000)


def _float_coords(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, coords=_coords(path) + 0.5)


def _turned_coords(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, coords=_coords(path).T.copy())


def _integers(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, features=_features(path).astype(np.uint16))


def _two_batches(cohort: Path) -> None:
    path = _slides(cohort)[0]
    values = _features(path)
    _rewrite(path, features=np.stack([values, values]))


def _mixed_encoder(cohort: Path) -> None:
    with h5py.File(_slides(cohort)[0], "r+") as file:
        file["features"].attrs["encoder"] = "another"


def _mixed_tile(cohort: Path) -> None:
    with h5py.File(_slides(cohort)[0], "r+") as file:
        file["coords"].attrs["patch_size"] = 512


def _two_files(cohort: Path) -> None:
    path = _slides(cohort)[0]
    shutil.copy(path, path.with_name(path.stem + ".svs.h5"))


def _zeros(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, features=np.zeros_like(_features(path)))


def _identical_rows(cohort: Path) -> None:
    path = _slides(cohort)[0]
    _rewrite(path, features=np.ones_like(_features(path)))


def _external_storage(cohort: Path) -> None:
    path = _slides(cohort)[0]
    values = _features(path)
    secret = cohort / "secret.raw"
    secret.write_bytes(b"x" * values.nbytes)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset(
            "features", shape=values.shape, dtype="f4", external=[(str(secret), 0, values.nbytes)]
        )


def _external_link(cohort: Path) -> None:
    path, other = _slides(cohort)[:2]
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(other), "/features")


def _soft_link(cohort: Path) -> None:
    path = _slides(cohort)[0]
    with h5py.File(path, "r+") as file:
        file.move("features", "hidden")
        file["features"] = h5py.SoftLink("/hidden")


def _virtual(cohort: Path) -> None:
    path, other = _slides(cohort)[:2]
    n_tiles, dim = _features(path).shape
    layout = h5py.VirtualLayout(shape=(n_tiles, dim), dtype="f4")
    source = h5py.VirtualSource(str(other), "features", shape=_features(other).shape)
    layout[: min(n_tiles, source.shape[0])] = source[: min(n_tiles, source.shape[0])]
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_virtual_dataset("features", layout)


def _shape_bomb(cohort: Path) -> None:
    path = _slides(cohort)[0]
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", shape=(10**9, 1536), dtype="f4", chunks=(1, 1536))


def _foreign_filter(cohort: Path) -> None:
    path = _slides(cohort)[0]
    values = _features(path)
    with h5py.File(path, "r+") as file:
        del file["features"]
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((1, values.shape[1]))
        how.set_filter(32004, h5py.h5z.FLAG_OPTIONAL)  # LZ4, a plug-in
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, how)
        h5py.Dataset(made)[...] = values


def _folder(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.unlink()
    path.mkdir()


def _fifo(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.unlink()
    os.mkfifo(path)


def _dangling(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.unlink()
    path.symlink_to(cohort / "nowhere.h5")


def _loop(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.unlink()
    path.symlink_to(path)


def _in_flight(cohort: Path) -> None:
    path = _slides(cohort)[0]
    path.with_name(path.name + ".lock").write_text("")


def _twins(cohort: Path) -> None:
    first, second = _slides(cohort)[:2]
    shutil.copy(first, second)


def _slide_level(cohort: Path) -> None:
    for path in _slides(cohort):
        _rewrite(path, features=_features(path)[:1], coords=_coords(path)[:1])


def _stale_graph(cohort: Path) -> None:
    _rewrite(_slides(cohort)[0], edge_index_k8=np.array([[0, 1], [1, 10_000]]))


FEATURES: list[tuple[Spoil, int, str, str]] = [
    (_truncate, 3, "F01", "truncated"),
    (_empty, 3, "F01", "0 bytes"),
    (_gzipped, 3, "F02", "gunzip"),
    (_html, 3, "F03", "HTML"),
    (_lfs, 3, "F03", "Git-LFS"),
    (_wrong_key, 3, "F04", "'feats'"),
    (_group, 3, "F05", "group"),
    (_scalar, 3, "F05", "scalar"),
    (_text_features, 3, "F05", "floats"),
    (_nan, 3, "F06", "first: row 3"),
    (_half_infinite, 3, "F06", "1 of"),
    (_width, 3, "F10", "24"),
    (_lengths, 3, "F11", "coords"),
    (_negative_coords, 3, "F13", "negative"),
    (_float_coords, 3, "F13", "fractional"),
    (_turned_coords, 3, "F13", "shape"),
    (_integers, 3, "F14", "uint16"),
    (_two_batches, 3, "F15", "shape"),
    (_mixed_encoder, 3, "F17", "another"),
    (_mixed_tile, 3, "F17", "512"),
    (_two_files, 3, "F18", "2 files"),
    (_zeros, 3, "F20", "zero"),
    (_identical_rows, 3, "F20", "identical"),
    (_external_storage, 5, "F21", "another file"),
    (_external_link, 5, "F22", "external link"),
    (_soft_link, 5, "F22", "soft link"),
    (_virtual, 5, "F23", "virtual"),
    (_shape_bomb, 5, "F24", "declares"),
    (_foreign_filter, 3, "F25", "filter 32004"),
    (_folder, 3, "F28", "folder"),
    (_fifo, 3, "F28", "pipe"),
    (_dangling, 3, "F28", "dangling"),
    (_loop, 3, "F28", "link"),
    (_twins, 5, "F32", "same content"),
    (_slide_level, 3, "F33", "slide-level"),
    (_stale_graph, 5, "F36", "edge_index_k8"),
]


def _table(cohort: Path) -> pd.DataFrame:
    return pd.read_csv(cohort / "clinical.csv", dtype=str, keep_default_na=False)


def _save(cohort: Path, table: pd.DataFrame) -> None:
    table.to_csv(cohort / "clinical.csv", index=False)


def _unmapped(cohort: Path) -> None:
    table = _table(cohort)
    table.loc[:3, "biomarker"] = "indeterminate"
    _save(cohort, table)


def _one_class(cohort: Path) -> None:
    table = _table(cohort)
    table["biomarker"] = "negative"
    _save(cohort, table)


def _conflict(cohort: Path) -> None:
    table = _table(cohort)
    row = table.iloc[[0]].copy()
    row["biomarker"] = "negative" if row["biomarker"].iloc[0] == "positive" else "positive"
    _save(cohort, pd.concat([table, row]))


def _slides_disagree(cohort: Path) -> None:
    table = _table(cohort)
    row = table.iloc[[0]].copy()
    row["slide_id"] = "second-slide"
    row["biomarker"] = "negative" if row["biomarker"].iloc[0] == "positive" else "positive"
    _save(cohort, pd.concat([table, row]))


def _no_column(cohort: Path) -> None:
    _save(cohort, _table(cohort).rename(columns={"biomarker": "biomarkr"}))


def _slide_of_two_cases(cohort: Path) -> None:
    table = _table(cohort)
    places = table.index[table["slide_id"] != ""][:2]
    table.loc[places[1], "slide_id"] = table.loc[places[0], "slide_id"]
    _save(cohort, table)


def _survival(cohort: Path) -> None:
    table = _table(cohort)
    table["biomarker"] = [str(100.5 + i) for i in range(len(table))]
    _save(cohort, table)


def _ids_do_not_match(cohort: Path) -> None:
    table = _table(cohort)
    table["slide_id"] = [f"other-{i}" for i in range(len(table))]
    _save(cohort, table)


def _ragged(cohort: Path) -> None:
    path = cohort / "clinical.csv"
    lines = path.read_text().splitlines()
    lines[4] += ",more"
    path.write_text("\n".join(lines))


CLINICAL: list[tuple[Spoil, int, str, str]] = [
    (_unmapped, 3, "L01", "indeterminate"),
    (_one_class, 3, "L10", "one class"),
    (_conflict, 3, "L06", "both"),
    (_slides_disagree, 3, "L04", "both"),
    (_no_column, 3, "L07", "biomarkr"),
    (_slide_of_two_cases, 3, "L12", "2 cases"),
    (_survival, 3, "L13", "time or a measurement"),
    (_ids_do_not_match, 3, "L03", "slide ids"),
    (_ragged, 3, "O16", "line 5"),
]


def _rna(cohort: Path) -> pd.DataFrame:
    return pd.read_csv(cohort / "rna.csv.gz", dtype=str, keep_default_na=False)


def _save_rna(cohort: Path, table: pd.DataFrame) -> None:
    table.to_csv(cohort / "rna.csv.gz", index=False)


def _differing_aliquots(cohort: Path) -> None:
    table = _rna(cohort)
    row = table.iloc[[0]].copy()
    row.iloc[0, 5] = "3.25"
    _save_rna(cohort, pd.concat([table, row]))


def _missing_value(cohort: Path) -> None:
    table = _rna(cohort)
    table.iloc[2, 7] = ""
    _save_rna(cohort, table)


def _logged_twice(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text().replace("rna: rna", "rna_scale: log2\n  rna: rna"))
    table = _rna(cohort)
    table.iloc[0, 3] = "4000"
    _save_rna(cohort, table)


def _negative_counts(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text().replace("rna: rna", "rna_scale: counts\n  rna: rna"))
    table = _rna(cohort)
    table.iloc[0, 3] = "-4"
    _save_rna(cohort, table)


def _mixed_scales(cohort: Path) -> None:
    table = _rna(cohort)
    numbers = table.iloc[:5, 1:].astype(float)
    table.iloc[:5, 1:] = (2**numbers * 50).astype(str)
    _save_rna(cohort, table)


def _excel_dates(cohort: Path) -> None:
    table = _rna(cohort)
    _save_rna(cohort, table.rename(columns={table.columns[3]: "2-Sep", table.columns[4]: "1-Mar"}))


def _duplicate_genes(cohort: Path) -> None:
    table = _rna(cohort)
    table.columns = [*table.columns[:-1], table.columns[1]]
    _save_rna(cohort, table)


def _no_orientation(cohort: Path) -> None:
    table = _rna(cohort)
    _save_rna(cohort, table.rename(columns={"case_id": "something"}))


def _decimal_comma(cohort: Path) -> None:
    table = _rna(cohort)
    table.iloc[1, 2] = "3,14"
    _save_rna(cohort, table)


def _label_inside(cohort: Path) -> None:
    table = _rna(cohort)
    _save_rna(cohort, table.rename(columns={table.columns[3]: "biomarker"}))


def _no_rna_file(cohort: Path) -> None:
    (cohort / "rna.csv.gz").unlink()


RNA: list[tuple[Spoil, int, str, str]] = [
    (_differing_aliquots, 3, "O02", "differ"),
    (_missing_value, 3, "O06", "row 4"),
    (_negative_counts, 3, "O07", "negative"),
    (_logged_twice, 3, "O08", "4000"),
    (_mixed_scales, 3, "O08", "5 do not"),
    (_excel_dates, 3, "O10", "2-Sep"),
    (_duplicate_genes, 3, "O13", "more than once"),
    (_no_orientation, 3, "O14", "cases from genes"),
    (_decimal_comma, 3, "O17", "3,14"),
    (_label_inside, 3, "O18", "biomarker"),
    (_no_rna_file, 3, "O16", "No such file"),
]


def _unknown_key(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text() + "fitt: {epochs: 3}\n")


def _misspelt_inner_key(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text().replace("epochs", "epoch"))


def _bad_value(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: many"))


def _no_yaml(cohort: Path) -> None:
    (cohort / "momkd.yaml").write_text("data: [unclosed")


def _unknown_model(cohort: Path) -> None:
    path = cohort / "momkd.yaml"
    path.write_text(path.read_text() + "model: {name: momdk}\n")


CONFIG: list[tuple[Spoil, int, str, str]] = [
    (_unknown_key, 2, "G03", "did you mean fit?"),
    (_misspelt_inner_key, 2, "G03", "did you mean epochs?"),
    (_bad_value, 2, "G04", "fit.epochs"),
    (_no_yaml, 2, "G01", "YAML"),
    (_unknown_model, 2, "G05", "momkd"),
]

_ALL = [*FEATURES, *CLINICAL, *RNA, *CONFIG]


def _state(cohort: Path) -> dict[str, str]:
    return {
        str(p.relative_to(cohort)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(cohort.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize(
    ("spoil", "exit_code", "code", "needle"), _ALL, ids=[f[0].__name__ for f in _ALL]
)
def test_a_faulty_input_is_refused(
    cohort: Path, spoil: Spoil, exit_code: int, code: str, needle: str
) -> None:
    spoil(cohort)
    before = _state(cohort)
    answer = momkd("check", "-c", cohort / "momkd.yaml", timeout_s=60)
    refused(answer, exit_code, f"[{code}]", needle)
    assert _state(cohort) == before, "inputs were touched or something half was left"


def test_a_changed_file_is_refused_after_the_first_check(cohort: Path) -> None:
    assert momkd("check", "-c", cohort / "momkd.yaml").code == 0
    path = _slides(cohort)[0]
    values = _features(path)
    values[0, 0] += 0.5
    _rewrite(path, features=values)
    refused(momkd("check", "-c", cohort / "momkd.yaml"), 5, "[F26]", "SHA-256 differs")


def test_an_empty_slide_is_recorded_and_counts(cohort: Path, tmp_path: Path) -> None:
    path = _slides(cohort)[0]
    dim = _features(path).shape[1]
    _rewrite(path, features=np.zeros((0, dim), np.float32), coords=np.zeros((0, 2), np.int64))
    strict = momkd("check", "-c", cohort / "momkd.yaml")
    refused(strict, 4, "[S20]", "1 of")
    lenient = momkd("check", "-c", cohort / "momkd.yaml", "--max-skip", 0.1, "-o", tmp_path / "a")
    assert lenient.code == 0, lenient.err
    dropped = pd.read_csv(tmp_path / "a" / "dropped.csv")
    assert "F07" in set(dropped.loc[dropped["id"] == path.stem, "code"])


def test_a_file_that_is_being_written_is_left_out_and_said(cohort: Path, tmp_path: Path) -> None:
    _in_flight(cohort)
    strict = momkd("check", "-c", cohort / "momkd.yaml")
    refused(strict, 4, "[S20]", "1 of")
    assert "left out: [F31]" in strict.err
    assert ".lock" in strict.err
    lenient = momkd("check", "-c", cohort / "momkd.yaml", "--max-skip", 0.1, "-o", tmp_path / "a")
    assert lenient.code == 0, lenient.err
    dropped = pd.read_csv(tmp_path / "a" / "dropped.csv")
    assert "F31" in set(dropped.loc[dropped["id"] == _slides(cohort)[0].stem, "code"])


def test_odd_names_and_tiles_at_one_place_are_taken_as_they_are(
    cohort: Path, tmp_path: Path
) -> None:
    odd = ["with space", "ünïcode-切片", "a,b", "=HYPERLINK(1)", "x" * 200, "two\nlines"]
    table = _table(cohort)
    for path, name in zip(_slides(cohort), odd, strict=False):
        path.rename(path.with_name(f"{name}.h5"))
        table.loc[table["slide_id"] == path.stem, "slide_id"] = name
    _save(cohort, table)
    path = _slides(cohort)[0]
    coords = _coords(path)
    coords[1] = coords[0]
    _rewrite(path, coords=coords)
    answer = momkd("check", "-c", cohort / "momkd.yaml", "-o", tmp_path / "audit")
    assert answer.code == 0, answer.err
    assert "several tiles at one place" in answer.out
    used = set(pd.read_csv(tmp_path / "audit" / "cohort.csv", dtype=str)["slide_id"])
    left = set(pd.read_csv(tmp_path / "audit" / "dropped.csv", dtype=str)["id"])
    assert set(odd) <= used | left


def test_all_faults_are_shown_at_once(cohort: Path) -> None:
    _wrong_key(cohort)
    _unmapped(cohort)
    _missing_value(cohort)
    answer = momkd("check", "-c", cohort / "momkd.yaml", "-o", cohort)
    refused(answer, 3, "[F04]")
    refused(answer, 3, "[L01]")
    refused(answer, 3, "[O06]")
    assert len(pd.read_csv(cohort / "problems.csv")) == 3


def _folds_file(cohort: Path, tmp: Path) -> pd.DataFrame:
    made = momkd("crossval", "-c", cohort / "momkd.yaml", "-o", tmp, "--model", "mean_logistic")
    assert made.code == 0, made.err
    return pd.read_csv(tmp / "folds.csv", dtype=str)


def test_given_folds(cohort: Path, tmp_path: Path) -> None:
    folds = _folds_file(cohort, tmp_path / "made")
    path = tmp_path / "folds.csv"

    def answer(table: pd.DataFrame) -> Answer:
        table.to_csv(path, index=False)
        return momkd(
            *("crossval", "-c", cohort / "momkd.yaml", "-o", tmp_path / "run"),
            *("--model", "mean_logistic", "--set", f"folds.file={path}"),
        )

    def is_refused(table: pd.DataFrame, code: int, *needles: str) -> None:
        table.to_csv(path, index=False)
        with pytest.raises(MomkdError) as refusal:
            check(cohort / "momkd.yaml", set_=[f"folds.file={path}"])
        assert refusal.value.exit_code == code
        assert all(needle in str(refusal.value) for needle in needles)

    first = folds.iloc[[0]]
    refused(answer(pd.concat([folds, first.assign(split="test")])), 5, "[K01]", "sides")
    moved = folds.copy()
    case = folds.loc[folds["split"] == "test", "case_id"].iloc[0]
    moved.loc[(moved["case_id"] == case) & (moved["split"] == "test"), "split"] = "train"
    is_refused(moved, 3, "[K02]", "never tested")
    is_refused(folds[folds["case_id"] != case], 3, "[K09]", "misses")
    is_refused(folds.assign(cohort="0" * 64), 5, "[K10]", "another cohort")
    slides = pd.read_csv(tmp_path / "made" / "cohort.csv", dtype=str).dropna(subset="slide_id")
    by_slide = folds.merge(slides[["case_id", "slide_id"]], on="case_id").drop(columns="case_id")
    twice = by_slide[by_slide["split"] != "test"].iloc[[0]].assign(split="test")
    is_refused(pd.concat([by_slide, twice]), 5, "[K11]", "sides")
    good = answer(folds)
    assert good.code == 0, good.err


def test_too_few_cases_for_the_folds(cohort: Path) -> None:
    answer = momkd("check", "-c", cohort / "momkd.yaml", "--set", "folds.n=40")
    refused(answer, 3, "[K03]", "14 at most")


def test_rows_that_are_no_numbers_can_be_left_out(cohort: Path, tmp_path: Path) -> None:
    _nan(cohort)
    config = cohort / "momkd.yaml"
    answer = momkd("check", "-c", config, "--set", "data.on_nonfinite=drop")
    assert answer.code == 0, answer.err
    assert "1 rows with NaN or infinite values dropped (1 slides)" in answer.out + answer.err


def test_a_file_without_permission(cohort: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    _slides(cohort)[0].chmod(0)
    answer = momkd("check", "-c", cohort / "momkd.yaml")
    refused(answer, 3, "[F29]", "owner")


def test_a_label_made_from_a_prediction(cohort: Path) -> None:
    table = pd.read_csv(cohort / "clinical.csv")
    table["prob_positive"] = (table["biomarker"] == "positive") * 0.8 + 0.1
    table.loc[table["biomarker"] == "equivocal", "prob_positive"] = np.nan
    table.to_csv(cohort / "clinical.csv", index=False)
    answer = momkd("check", "-c", cohort / "momkd.yaml")
    refused(answer, 3, "[L14]", "prob_positive", "biomarker")
