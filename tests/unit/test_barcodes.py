"""Barcodes say what the GDC's page on them says; other ids pass untouched."""

import pytest

from momkd.data.barcodes import Barcode, case_of, parse_barcode, slide_kind_of


def test_every_part_of_an_aliquot() -> None:
    assert parse_barcode(" TCGA-02-0001-01C-01D-0182-01 ") == Barcode(
        case_id="TCGA-02-0001",
        site="02",
        sample_type="01",
        vial="C",
        portion="01",
        analyte="D",
        plate="0182",
        centre="01",
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291", "DX"),
        ("TCGA-3C-AALI-01Z-00-DX10", "DX"),
        ("TCGA-3C-AALI-01A-01-TSA", "TS"),
        ("tcga-3c-aali-01a-02-bs2.svs", "BS"),
        ("TCGA-3C-AALI-01A-03-MS3.7F1B", "MS"),
        ("TCGA-3C-AALI-01Z-00", None),
        ("hospital-DX1", None),
    ],
)
def test_kinds_of_slides(text: str, kind: str | None) -> None:
    assert slide_kind_of(text) == kind
    assert case_of(text) == ("TCGA-3C-AALI" if kind or "AALI" in text else text)


def test_lengths_and_spellings_of_one_case() -> None:
    spelt = ["TCGA-AB-1234", "TCGA-AB-1234-01", "TCGA-AB-1234-01A", "tcga.ab.1234.01a.11r.a12p.07"]
    found = [parse_barcode(t) for t in spelt]
    assert {b.case_id for b in found if b} == {"TCGA-AB-1234"}
    assert [b.sample_type for b in found if b] == [None, "01", "01", "01"]
    assert found[3] is not None
    assert (found[3].analyte, found[3].plate) == ("R", "A12P")


@pytest.mark.parametrize(
    "text", ["TCGA-AB-123", "TCGA-AB-12345", "C3L-00001", "TCGA", "", "XTCGA-AB-1234"]
)
def test_other_ids_pass_untouched(text: str) -> None:
    assert parse_barcode(text) is None
    assert case_of(f" {text} ") == text


def test_types_that_are_asked_for() -> None:
    codes = {t: parse_barcode(f"TCGA-AB-1234-{t}A") for t in ("01", "03", "06", "11", "20")}
    assert [t for t, b in codes.items() if b and b.is_of(("01", "06"))] == ["01", "06"]
    assert [t for t, b in codes.items() if b and b.is_tumour] == ["01", "03", "06"]
    case = parse_barcode("TCGA-AB-1234")
    assert case is not None
    assert case.is_of(())
