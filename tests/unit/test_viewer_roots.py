"""Nothing beyond the folders of slides is named, found or opened, whatever a path or link says."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momkd.errors import DataError, IntegrityError
from momkd.viewer.roots import SlideRoots, key_of
from momkd.viewer.uploads import safe_name


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder of slides, and secrets beside it that links point to."""
    house = tmp_path_factory.mktemp("house")
    inside, outside = house / "slides", house / "secret"
    for path in (inside / "a.svs", inside / "deep" / "b.tif", inside / "f.h5", outside / "s.svs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in ("notes.txt", ".hidden.svs", "label.csv"):
        (inside / name).write_bytes(b"x")
    (inside / "link.svs").symlink_to(outside / "s.svs")
    (inside / "dir").symlink_to(outside)
    (inside / "good.svs").symlink_to(inside / "a.svs")
    (inside / "loop.svs").symlink_to(inside / "loop.svs")
    (inside / "m.mrxs").write_bytes(b"x")
    (inside / "m").symlink_to(outside)
    (inside / "\udcff.svs").write_bytes(b"x")  # a name that is no text
    return house


def test_only_slides_below_the_folders_are_found(house):
    roots = SlideRoots([house / "slides"])
    assert [roots.name_of(p) for p in roots.find()] == ["a.svs", "deep/b.tif", "f.h5"]
    assert set(roots.slides()) == {"a", "b"}
    assert roots.name_of(house / "secret" / "s.svs") == "s.svs"


@pytest.mark.parametrize("name", ["a.svs", "deep/b.tif", "f.h5", "good.svs", "deep/../a.svs"])
def test_a_file_below_the_folders_is_given(house, name):
    path = SlideRoots([house / "slides"]).resolve(name)
    assert path.is_relative_to((house / "slides").resolve())
    whole = str(house / "slides" / name)
    assert SlideRoots([house / "slides"]).resolve(whole) == path


OUTSIDE = ["../secret/s.svs", "../secret/absent.svs", "link.svs", "dir/s.svs", "loop.svs", "m.mrxs"]
OUTSIDE += ["/etc/passwd", "/etc/absent.svs", "notes.txt", ".hidden.svs", "label.csv", "deep", ""]
OUTSIDE += ["a.svs\0.txt", "\0", "x" * 300 + ".svs", "y/" * 3000 + ".svs", "..", ".", "C:\\a.svs"]
OUTSIDE += ["%2e%2e/secret/s.svs", "~/a.svs", "deep/../../secret/s.svs", "\ud800.svs", "\udcff.svs"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_anything_else_is_refused_and_tells_nothing(house, name):
    with pytest.raises(IntegrityError) as refusal:
        SlideRoots([house / "slides"]).resolve(name)
    problem = refusal.value.problems[0]
    assert problem.code == "D10"
    assert problem.what == "is no slide or feature file below the folders given with --slides"
    assert len(problem.line()) <= 300


@given(name=st.text(max_size=60) | st.sampled_from(["..", "/", "secret/", "dir/", "s.svs", "link"]))
def test_whatever_is_named_nothing_outside_is_given(house, name):
    roots = SlideRoots([house / "slides"])
    for text in (name, f"../{name}", f"dir/{name}", f"{name}/../../secret/s.svs", f"{name}.svs"):
        try:
            path = roots.resolve(text)
        except IntegrityError:
            continue
        assert path.is_relative_to((house / "slides").resolve())
        assert path.is_file()


def test_a_name_that_stands_for_two_slides_is_nobodys(house, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x")
    roots = SlideRoots([house / "slides", tmp_path])
    assert set(roots.slides()) == {"b"}


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="F28"):
        SlideRoots([tmp_path / "absent"])


def test_keys_are_plain_and_stay_the_same():
    names = ["a", "b", "\ud800", "x" * 300, "<script>", "../a"]
    keys = [key_of("run", n) for n in names]
    assert len(set(keys)) == len(names)
    assert all(len(k) == 16 and set(k) <= set("0123456789abcdef") for k in keys)
    assert key_of("run", "a") == keys[0] != key_of("new", "a")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("TCGA-A2-A0T2-01Z-00-DX1.svs", "TCGA-A2-A0T2-01Z-00-DX1.svs"),
        ("slide.TIF", "slide.tif"),
        ("features.h5", "features.h5"),
        ("/srv/somebody/a.svs", "a.svs"),
        ("C:\\scans\\a.svs", "a.svs"),
        ("..\\..\\a.svs", "a.svs"),
    ],
)
def test_a_plain_name_of_an_upload_is_kept(name, kept):
    assert safe_name(name) == kept


ODD = ["<img src=x onerror=alert(1)>.svs", "x" * 300 + ".svs", "..svs", ". .svs", "a\0b.svs"]
ODD += ["Müller, Anna.svs", "a\u202egpj.svs", "\ud800.svs", " .svs", "a b.svs"]


@pytest.mark.parametrize("name", ODD)
def test_any_other_name_of_an_upload_becomes_a_digest(name):
    kept = safe_name(name)
    assert kept.endswith(".svs")
    assert kept.startswith("upload-") or kept == "ab.svs"
    assert kept == Path(kept).name
    assert len(os.fsencode(kept)) < 40


@pytest.mark.parametrize("name", ["a.exe", "a", "", ".svs", "a.svs.zip", "a.zarr", "../.."])
def test_uploads_that_are_no_slides_by_name_are_refused(name):
    with pytest.raises(IntegrityError, match="D10"):
        safe_name(name)


def test_a_slide_of_several_files_cannot_be_uploaded():
    with pytest.raises(DataError, match="S13"):
        safe_name("a.mrxs")
