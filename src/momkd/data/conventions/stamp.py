"""STAMP: a clini table of patients, a slide table of files, and ``splits.json``.

The clini table (csv or xlsx) has a row a patient, the slide table a row a file, named relative to
the folder of features. ``splits.json`` knows two sides; STAMP draws its own validation cases from
the training patients.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from momkd.config import read_yaml
from momkd.data.conventions.study import (
    GivenSplit,
    SplitRow,
    StudyRow,
    StudyTables,
    require_columns,
    write_table,
)
from momkd.data.delimited import TextTable, read_table
from momkd.errors import ConfigError, DataError, Problem, Problems
from momkd.storage import write_text

PATIENT, FILENAME = "PATIENT", "FILENAME"
_SECTIONS = ("crossval", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class StampConfig:
    """What a STAMP configuration says of tables; paths as resolved against its folder."""

    clini_table: Path
    slide_table: Path
    feature_dir: Path
    label: str
    categories: tuple[str, ...]
    patient: str
    filename: str
    n_splits: int | None
    splits: Path | None


def read_stamp_config(path: Path) -> StampConfig:
    """Read the ``crossval`` section of a STAMP ``config.yaml``, or else ``training``.

    Raises
    ------
    ConfigError
        G01 no YAML mapping; G15 neither section, a key that is absent, or a task that is no
        classification.
    """
    content = read_yaml(path)
    name = next((s for s in _SECTIONS if isinstance(content.get(s), dict)), None)
    if name is None:
        what = f"has no section {' or '.join(_SECTIONS)} (has {', '.join(content) or 'none'})"
        raise ConfigError.of("G15", str(path), what, "give STAMP's config.yaml")
    section: dict[str, Any] = content[name]
    problems = Problems()
    for key in ("clini_table", "slide_table", "feature_dir", "ground_truth_label"):
        if not isinstance(section.get(key), str):
            what = f"got {section.get(key)!r}, wanted one {key}"
            problems.add(Problem(code="G15", where=f"{path}: {name}.{key}", what=what))
    if section.get("task") not in (None, "classification"):
        what = f"got task {section['task']!r}, wanted classification"
        problems.add(Problem(code="G15", where=f"{path}: {name}.task", what=what))
    problems.refuse(ConfigError)
    folder = path.resolve().parent
    output = section.get("output_dir")
    splits = None if not isinstance(output, str) else folder / output / "splits.json"
    n_splits = section.get("n_splits")
    return StampConfig(
        clini_table=folder / section["clini_table"],
        slide_table=folder / section["slide_table"],
        feature_dir=folder / section["feature_dir"],
        label=section["ground_truth_label"],
        categories=tuple(str(c) for c in section.get("categories") or ()),
        patient=section.get("patient_label") or PATIENT,
        filename=section.get("filename_label") or FILENAME,
        n_splits=n_splits if isinstance(n_splits, int) and n_splits > 1 else None,
        splits=splits if splits is not None and splits.exists() else None,
    )


def read_stamp(
    clini_table: Path,
    slide_table: Path,
    *,
    label: str,
    patient: str = PATIENT,
    filename: str = FILENAME,
    splits: Path | None = None,
) -> StudyTables:
    """Join a clini and a slide table: a row a file, then the patients without any.

    A file whose patient has no clini row is kept, with blank values.

    Raises
    ------
    DataError
        L07 a column is absent, O16 no table, K13 no splits; all at once L05 rows without patient or
        file, L06 clini rows of a patient that differ, L12 a file under two patients.
    """
    clini, slides = read_table(clini_table), read_table(slide_table)
    used = require_columns(clini, patient=(patient,), label=(label,))
    named = require_columns(slides, patient=(patient,), filename=(filename,))
    problems = Problems()
    values = _values_of_patients(clini, used["patient"], problems)
    blank = dict.fromkeys((c for c in clini.columns if c != used["patient"]), "")
    extra = [c for c in slides.columns if c not in named.values()]
    rows: list[StudyRow] = []
    for i, case_id in enumerate(slides.column(named["patient"])):
        file = slides.rows[i][slides.columns.index(named["filename"])].strip()
        if not case_id or not file:
            _tell(problems, "L05", slides, i, "a row without patient or file")
            continue
        own = {c: slides.rows[i][slides.columns.index(c)].strip() for c in extra}
        rows.append(
            StudyRow(case_id=case_id, slide=file, values={**values.get(case_id, blank), **own})
        )
    _require_one_owner(slides, rows, problems)
    problems.refuse(DataError)
    with_slides = {row.case_id for row in rows}
    rows += [StudyRow(case_id=c, values=v) for c, v in values.items() if c not in with_slides]
    given = () if splits is None else read_given_splits(splits)
    return StudyTables(label=used["label"], rows=tuple(rows), splits=given)


def write_stamp(study: StudyTables, folder: Path, *, feature_dir: str | None = None) -> list[Path]:
    """Write ``clini.csv``, ``slide.csv``, ``crossval/splits.json`` and a ``config.yaml``.

    Columns whose values differ between the slides of a patient go to the slide table.
    """
    of_case: dict[str, list[StudyRow]] = {}
    for row in study.rows:
        of_case.setdefault(row.case_id, []).append(row)
    varying = [
        c
        for c in study.columns
        if any(len({r.values.get(c) for r in rows}) > 1 for rows in of_case.values())
    ]
    constant = [c for c in study.columns if c not in varying]
    clini = [[c, *(rows[0].values.get(k, "") for k in constant)] for c, rows in of_case.items()]
    slides = [
        [r.case_id, r.slide, *(r.values.get(k, "") for k in varying)] for r in study.rows if r.slide
    ]
    written = [
        write_table(folder / "clini.csv", [PATIENT, *constant], clini),
        write_table(folder / "slide.csv", [PATIENT, FILENAME, *varying], slides),
    ]
    section: dict[str, Any] = {
        "output_dir": "crossval",
        "clini_table": "clini.csv",
        "slide_table": "slide.csv",
        "feature_dir": feature_dir or "features",
        "task": "classification",
        "ground_truth_label": study.label,
        "categories": sorted({r.values[study.label] for r in study.rows} - {""}),
        "patient_label": PATIENT,
        "filename_label": FILENAME,
    }
    if study.splits:
        section["n_splits"] = len(study.splits)
        content = {
            "splits": [
                {"train_patients": [*s.train, *s.val], "test_patients": [*s.test]}
                for s in study.splits
            ]
        }
        path = folder / "crossval" / "splits.json"
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        written.append(path)
    text = yaml.safe_dump({"crossval": section}, sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", text)
    return [*written, folder / "config.yaml"]


def read_given_splits(path: Path) -> tuple[GivenSplit, ...]:
    """Read ``splits.json``.

    Raises
    ------
    DataError
        K13 it cannot be read, or is no such file.
    """
    wanted = "a list 'splits' of train_patients and test_patients"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["splits"]
        sides = [(_ids(s["train_patients"]), _ids(s["test_patients"])) for s in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"cannot be read as {wanted}: {error}"
        raise DataError.of("K13", str(path), what, "give splits.json of stamp crossval") from None
    return tuple(
        GivenSplit(index=i, train=train, val=(), test=test) for i, (train, test) in enumerate(sides)
    )


def read_split_rows(path: Path) -> Iterator[SplitRow]:
    """Give ``splits.json`` as rows; a row's line is the number of its split."""
    for split in read_given_splits(path):
        for side in ("train", "test"):
            for name in getattr(split, side):
                yield SplitRow(path, split.index + 1, 0, split.index, name, side)


def _ids(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(n, str | int) for n in names):
        raise TypeError("patients are no list of ids")
    return tuple(str(n) for n in names)


def _values_of_patients(
    clini: TextTable, patient: str, problems: Problems
) -> dict[str, Mapping[str, str]]:
    columns = [c for c in clini.columns if c != patient]
    found: dict[str, Mapping[str, str]] = {}
    for i, case_id in enumerate(clini.column(patient)):
        own = {c: clini.rows[i][clini.columns.index(c)].strip() for c in columns}
        if not case_id:
            _tell(problems, "L05", clini, i, "a row without patient")
        elif found.setdefault(case_id, own) != own:
            differ = ", ".join(c for c in columns if found[case_id][c] != own[c])
            _tell(problems, "L06", clini, i, f"patient {case_id} has rows that differ in {differ}")
    return found


def _require_one_owner(slides: TextTable, rows: Sequence[StudyRow], problems: Problems) -> None:
    owner: dict[str, str] = {}
    for i, row in enumerate(rows):
        first = owner.setdefault(row.slide, row.case_id)
        if first != row.case_id:
            what = f"file {row.slide} stands under patients {first} and {row.case_id}"
            _tell(problems, "L12", slides, i, what)


def _tell(problems: Problems, code: str, table: TextTable, i: int, what: str) -> None:
    remedy, row = "mend the table", table.lines[i]
    problems.add(Problem(code=code, where=str(table.path), what=what, remedy=remedy, row=row))
