"""The pages hold no inline code, load nothing from elsewhere, and put names in as text."""

import re

import pytest

from momkd.storage import digest_bytes
from momkd.viewer.application import _STATIC
from tests.page_reader import PageReader

PAGES = sorted(_STATIC.glob("*.html"))
SCRIPTS = sorted(p for p in _STATIC.glob("*.js") if p.name != "openseadragon.min.js")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_hold_no_inline_code_and_nothing_from_elsewhere(page):
    reader = PageReader(page.read_text())
    assert reader.faults == []
    for tag, facts in reader.tags:
        assert tag not in ("style", "base", "iframe", "object", "embed"), tag
        assert not [name for name in facts if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert (facts.get(name) or "/").startswith(("/", "#")), facts
            assert not (facts.get(name) or "/").startswith("//")
        if tag == "script":
            assert facts["src"]
    assert all(not text.strip() for text in reader.scripts)
    ids = [facts["id"] for _, facts in reader.tags if "id" in facts]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_put_names_in_as_text_and_ask_nobody_else(script):
    text = script.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    assert not re.search(r"new Function|setAttribute\(\s*[\"']on|https?://", text)
    assert not re.search(r"localStorage|sessionStorage|document\.cookie", text)
    for place in re.findall(r"from \"([^\"]+)\"", text):
        assert (_STATIC / place.removeprefix("/static/")).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_whatever_a_script_looks_for_is_on_its_page(page):
    html = page.read_text()
    (name,) = re.findall(r"module\" src=\"/static/([a-z]+\.js)\"", html)
    wanted = set(re.findall(r"byId\(\"([a-z-]+)\"\)", (_STATIC / name).read_text()))
    ids = {facts["id"] for _, facts in PageReader(html).tags if "id" in facts}
    assert wanted
    assert wanted - ids == set()


def test_what_was_vendored_is_unchanged_and_brings_its_licence():
    note = (_STATIC / "openseadragon-VENDORED.txt").read_text()
    content = (_STATIC / "openseadragon.min.js").read_bytes()
    assert digest_bytes(content) in note
    version = re.search(rb"openseadragon (\d+\.\d+\.\d+)", content)
    assert version is not None
    assert f"OpenSeadragon {version[1].decode()}," in note
    assert "Redistribution and use" in (_STATIC / "openseadragon-LICENSE.txt").read_text()
