"""Whose file is it: the GDC's sample sheet, or the metadata of a cart, as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import TextTable, find_column, is_blank, open_table, read_table
from momkd.errors import DataError, MomkdError

_MOST_BYTES = 1 << 28
_TYPES = (  # words of the GDC for a sample, the first that fits; 03 and 09 before 01
    ("normal", "11"),
    ("control", "20"),
    ("metasta", "06"),
    ("recurrent blood", "04"),
    ("recurren", "02"),
    ("blood derived cancer - bone marrow", "09"),
    ("blood derived cancer", "03"),
    ("new primary", "05"),
    ("primary", "01"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOwner:
    """The sample in a file: its id (an aliquot's barcode where known), case, and type."""

    sample_id: str
    case_id: str
    sample_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSheet:
    """Owners of files, by the file's name and by its UUID; ``sources`` are the files read."""

    by_name: Mapping[str, FileOwner]
    by_uuid: Mapping[str, FileOwner]
    sources: tuple[Path, ...]
    bare_manifest: Path | None

    def owner(self, path: Path) -> FileOwner | None:
        """Give the owner of a file; its own name may be a barcode's."""
        found = self.by_name.get(path.name) or self.by_name.get(path.name.removesuffix(".gz"))
        found = found or self.by_uuid.get(path.parent.name)
        barcode = parse_barcode(path.name)
        if found is not None or barcode is None:
            return found
        stem = path.name.split(".", maxsplit=1)[0]
        return FileOwner(sample_id=stem, case_id=barcode.case_id, sample_type=barcode.sample_type)


def sample_type_of(words: str) -> str | None:
    """Give the two digits of a TCGA sample type for the words of the GDC.

    Digits are taken as they are; unknown words stay, so that nobody takes them for tumour; blank is
    None.
    """
    text = " ".join(words.casefold().split())
    if not text or all(is_blank(word) for word in text.split()):
        return None
    if text.isdecimal():
        return text.zfill(2)
    found = next((code for word, code in _TYPES if word in text), None)
    return found or ("01" if text in ("tumor", "tumour", "not applicable tumor") else text)


def find_sample_sheet(folder: Path, given: Path | None) -> SampleSheet:
    """Read the sheet that was named, or those that lie in a folder or beside it.

    Raises
    ------
    DataError
        O04 a named file that is no sheet, O16 one that cannot be read.
    """
    candidates = [given] if given is not None else list(_candidates(folder))
    by_name: dict[str, FileOwner] = {}
    by_uuid: dict[str, FileOwner] = {}
    sources: list[Path] = []
    bare: Path | None = None
    for path in candidates:
        rows = _read_json(path, given) if path.suffix == ".json" else _read_table(path, given)
        if rows is None:
            bare = bare or (path if _is_bare_manifest(path) else None)
            continue
        sources.append(path)
        for name, uuid, owner in rows:
            for found, key in ((by_name, name), (by_uuid, uuid)):
                if key:
                    found[key] = _better(found.get(key), owner, path, key)
    if given is not None and not sources:
        what = "names no case for a file" + (": it is a bare manifest" if bare else "")
        remedy = "give the GDC sample sheet, or the cart's metadata as JSON"
        raise DataError.of("O04", str(given), what, remedy)
    return SampleSheet(by_name=by_name, by_uuid=by_uuid, sources=tuple(sources), bare_manifest=bare)


def _candidates(folder: Path) -> Iterable[Path]:
    for place in (folder, folder.resolve().parent):
        for path in sorted(place.iterdir()):
            if path.suffix in (".json", ".tsv", ".txt") and path.is_file():
                yield path


def _better(old: FileOwner | None, new: FileOwner, path: Path, key: str) -> FileOwner:
    """Of two sheets, take the longer id (an aliquot's); they must agree on the case."""
    if old is None:
        return new
    if old.case_id != new.case_id:
        what = f"{key} belongs to {new.case_id}, elsewhere to {old.case_id}"
        raise DataError.of("O04", str(path), what, "keep the sheet of this download alone")
    return new if len(new.sample_id) > len(old.sample_id) else old


_Rows = list[tuple[str, str, FileOwner]]


def _read_table(path: Path, given: Path | None) -> _Rows | None:
    """Read a sheet of columns; None where it is none, unless it was named by the user."""
    try:
        columns = open_table(path).columns
        file = find_column(columns, ("file_name", "filename"))
        case = find_column(columns, ("case_id", "cases.0.submitter_id", "case_submitter_id"))
        if file is None or case is None:
            return None
        return _rows_of(read_table(path), file, case)
    except MomkdError:
        if given is not None:
            raise
        return None


def _rows_of(table: TextTable, file: str, case: str) -> _Rows:
    def cells(*names: str) -> list[str]:
        found = find_column(table.columns, names)
        return [""] * len(table.rows) if found is None else table.column(found)

    kinds = cells("sample_type", "cases.0.samples.0.sample_type")
    tissues, tumours = cells("tissue_type"), cells("tumor_descriptor")
    kinds = [
        kind if not is_blank(kind) else f"{tumour} {tissue}"
        for kind, tissue, tumour in zip(kinds, tissues, tumours, strict=True)
    ]
    samples = cells("aliquot_id", "sample_id", "cases.0.samples.0.submitter_id")
    return [
        (name, uuid, _owner(table.path, name, c, sample, kind))
        for name, uuid, c, sample, kind in zip(
            *(table.column(file), cells("file_id", "id"), table.column(case), samples, kinds),
            strict=True,
        )
    ]


def _read_json(path: Path, given: Path | None) -> _Rows | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            content = content.get("data", content)
            content = content.get("hits") if isinstance(content, dict) else content
        if not isinstance(content, list) or not all(isinstance(c, dict) for c in content):
            return None
        return [row for entry in content if (row := _row_of(path, entry)) is not None] or None
    except (OSError, ValueError, RecursionError) as error:
        if given is None:
            return None
        what = f"cannot be read: {str(error)[:80]}"
        raise DataError.of("O16", str(path), what, "download it again") from None


def _row_of(path: Path, entry: Mapping[str, Any]) -> tuple[str, str, FileOwner] | None:
    name = _word(entry.get("file_name"))
    case = _first(entry.get("cases"))
    sample = _first(case.get("samples"))
    entity = _word(_first(entry.get("associated_entities")).get("entity_submitter_id"))
    sample_id = entity or _word(sample.get("submitter_id"))
    case_id = _word(case.get("submitter_id")) or sample_id
    if not name or not case_id:
        return None
    tissue = f"{_word(sample.get('tumor_descriptor'))} {_word(sample.get('tissue_type'))}"
    kind = _word(sample.get("sample_type")) or tissue
    uuid = _word(entry.get("file_id")) or _word(entry.get("id"))
    return name, uuid, _owner(path, name, case_id, sample_id, kind)


def _owner(path: Path, file: str, case: str, sample: str, kind: str) -> FileOwner:
    """Bring one row to one owner; a cell may repeat the same case after a comma."""
    cases = sorted({c.strip() for c in case.split(",")} - {""})
    samples = sorted({s.strip() for s in sample.split(",")} - {""})
    if len(cases) != 1 or len(samples) > 1:
        what = f"{file} is of {len(cases)} cases and {len(samples)} samples, wanted one"
        raise DataError.of("O04", str(path), what, "leave this file out of sheet and folder")
    sample_id = samples[0] if samples else cases[0]
    barcode = parse_barcode(sample_id)
    if barcode is not None and barcode.sample_type is not None:
        return FileOwner(
            sample_id=sample_id, case_id=barcode.case_id, sample_type=barcode.sample_type
        )
    barcode = parse_barcode(cases[0])
    case_id = cases[0] if barcode is None else barcode.case_id
    return FileOwner(sample_id=sample_id, case_id=case_id, sample_type=sample_type_of(kind))


def _is_bare_manifest(path: Path) -> bool:
    try:
        columns = open_table(path).columns
    except MomkdError:
        return False
    return find_column(columns, ("filename",)) is not None and "md5" in columns


def _first(value: Any) -> Mapping[str, Any]:
    found = value[0] if isinstance(value, list) and value else None
    return found if isinstance(found, dict) else {}


def _word(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def describe(sheet: SampleSheet, missing: Sequence[Path], n_files: int) -> tuple[str, str]:
    """Say what is wrong where files have no owner, and how to mend it."""
    what = f"names no case for {len(missing):,} of {n_files:,} files (first: {missing[0].name})"
    remedy = "set data.rna_samples: the GDC sample sheet, or the cart's metadata as JSON"
    if sheet.bare_manifest is not None and not sheet.sources:
        remedy = f"{sheet.bare_manifest.name} names no cases; {remedy}"
    return what, remedy
