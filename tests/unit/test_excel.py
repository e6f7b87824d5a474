"""Workbooks: the text a person sees, and nothing read as blank that is not."""

import datetime
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from momkd.data import excel
from momkd.data.clinical import ColumnOptions, TargetOptions, read_clinical
from momkd.data.delimited import read_table
from momkd.data.excel import is_workbook, read_workbook
from momkd.errors import DataError, MachineError


def book(path: Path, rows: list[list[Any]], *more: tuple[str, list[list[Any]]]) -> Path:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheets = [(sheet, rows)] + [(made.create_sheet(name), other) for name, other in more]
    for place, content in sheets:
        for row in content:
            place.append(row)
    made.save(path)
    return path


def test_cells_become_the_text_one_sees(tmp_path: Path) -> None:
    day = datetime.datetime(2014, 1, 13)
    rows: list[list[Any]] = [
        ["PATIENT", " label ", "n", "day", None],
        ["00123", True, 3.0, day, None],
        [None, None, None, None, None],
        ["p 2", False, 0.25, None, None],
    ]
    path = book(tmp_path / "t.xlsx", rows, ("Sheet2", []))
    columns, cells, lines = read_workbook(path)
    assert columns == ("PATIENT", "label", "n", "day")
    assert cells == [["00123", "TRUE", "3", "2014-01-13"], ["p 2", "FALSE", "0.25", ""]]
    assert lines == [2, 4]


def test_a_workbook_is_a_clinical_table_whatever_its_name(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["PATIENT", "y"], ["a", 1], ["b", 0], ["c", None]])
    path = path.rename(tmp_path / "t.csv")
    target = TargetOptions(column="y", positive=1, negative=0)
    table = read_clinical(path, target, ColumnOptions())
    assert [r.label for r in table.rows] == [1, 0, None]


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = [["PATIENT", "y"], ["a", 1]]
    with pytest.raises(DataError, match=r"O16.*2 sheets with content \(Sheet, more\)"):
        read_workbook(book(tmp_path / "two.xlsx", table, ("more", table)))
    with pytest.raises(DataError, match=r"O16.*1 formulas hold no result \(first: B2\)"):
        read_workbook(book(tmp_path / "formula.xlsx", [["PATIENT", "y"], ["a", "=1+1"]]))
    with pytest.raises(DataError, match=r"O16.*no sheet with content"):
        read_workbook(book(tmp_path / "empty.xlsx", []))
    with pytest.raises(DataError, match=r"O16.*column 2 has cells and no name"):
        read_workbook(book(tmp_path / "nameless.xlsx", [["PATIENT", None], ["a", 1]]))
    with pytest.raises(DataError, match=r"O16.*header and no row"):
        read_workbook(book(tmp_path / "bare.xlsx", [["PATIENT", "y"]]))
    good = book(tmp_path / "good.xlsx", table)
    monkeypatch.setattr(excel, "_LARGEST_BYTES", 10)
    with pytest.raises(DataError, match=r"O16.*unpacks to"):
        read_workbook(good)


def test_a_damaged_workbook_and_another_zip(tmp_path: Path) -> None:
    good = book(tmp_path / "good.xlsx", [["PATIENT", "y"], ["a", 1]])
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "bad.xlsx", "w") as made:
        for name in source.namelist():
            content = b"<broken" if name.startswith("xl/worksheets") else source.read(name)
            made.writestr(name, content)
    with pytest.raises(DataError, match=r"O16.*damaged workbook"):
        read_workbook(tmp_path / "bad.xlsx")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as made:
        made.writestr("a.csv", "x,y\n")
    assert not is_workbook(tmp_path / "other.zip")
    with pytest.raises(DataError, match=r"O16.*an Excel or zip file"):
        read_table(tmp_path / "other.zip")
    truncated = tmp_path / "truncated.xlsx"
    truncated.write_bytes(good.read_bytes()[:300])
    with pytest.raises(DataError, match="O16"):
        read_table(truncated)
    assert not is_workbook(tmp_path / "absent.xlsx")


def test_without_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = book(tmp_path / "t.xlsx", [["PATIENT", "y"], ["a", 1]])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(MachineError, match=r"G14.*momkd\[excel\]"):
        read_workbook(path)
