"""The viewer in a real browser: what a person does with it, from the list to a new slide."""

import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Served
from tests.run_folders import write_run

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror="alert(1)">'
LONG_MS = 240_000
SECTION_MPP = 0.69


def hash_of(page: Any) -> dict[str, str]:
    """Give what the address says of the view."""
    return {k: v[0] for k, v in parse_qs(urlsplit(page.url).fragment).items()}


def column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"#cases tbody tr > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def open_slide(page: Any, address: str, place: int = 0) -> None:
    page.goto(address)
    page.locator("#cases tbody tr").nth(place).locator("a").first.click()
    page.wait_for_selector("body[data-ready]")


def compute(page: Any) -> None:
    """Have the heat map computed, unless it is stored."""
    if page.locator("#compute").is_visible():
        page.click("#compute")
    page.wait_for_selector("#layer:not([disabled])", timeout=LONG_MS)


def drawn(page: Any) -> int:
    """Count pixels of the overlay that show anything."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById("overlay");
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const pen = copy.getContext("2d", { willReadFrequently: true });
          pen.drawImage(canvas, 0, 0);
          const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
          let n = 0;
          for (let i = 3; i < data.length; i += 4) n += data[i] > 0;
          return n;
        }"""
    )


def settle(page: Any) -> None:
    """Wait until a movement has ended and the address says so."""
    page.wait_for_timeout(900)


def test_cases_are_searched_sorted_and_filtered(watch: Any, served: Served) -> None:
    watched = watch(served.address)
    page = watched.page
    page.goto(served.address)
    page.wait_for_selector("#cases tbody tr")
    assert column(page, 1) == sorted(column(page, 1))
    assert page.locator("#count").inner_text() == "16 of 16 cases"
    page.get_by_role("button", name="Error").click()
    errors = [float(text) for text in column(page, 5)]
    assert errors == sorted(errors, reverse=True)
    page.get_by_role("button", name=re.compile("Probability")).press("Enter")
    scores = [float(text) for text in column(page, 3)]
    assert scores == sorted(scores, reverse=True)
    page.select_option("#model", "mean_logistic")
    assert [float(text) for text in column(page, 3)] != scores
    page.select_option("#filter", "wrong")
    wrong = column(page, 4)
    assert all(text.endswith("(wrong)") for text in wrong)
    page.select_option("#filter", "right")
    assert len(column(page, 4)) == 16 - len(wrong)
    page.select_option("#filter", "all")
    page.fill("#search", "sim0-03")
    assert page.locator("#cases tbody th").all_inner_texts() == ["SIM0-03"]
    watched.require_well()


def test_a_slide_is_zoomed_and_a_link_brings_the_view_back(watch: Any, served: Served) -> None:
    watched = watch(served.address)
    page = watched.page
    open_slide(page, served.address)
    settle(page)
    before = hash_of(page)
    for _ in range(2):
        page.click("#zoom-in")
    settle(page)
    after = hash_of(page)
    assert float(after["zoom"]) == pytest.approx(float(before["zoom"]) * 1.6**2, rel=0.02)
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(320, 350, steps=4)
    page.mouse.up()
    settle(page)
    moved = hash_of(page)
    assert int(moved["x"]) > int(after["x"])
    # the bar is as long as it says, at 1.75 um a pixel of the slide
    words = page.locator("#scale span").inner_text()
    width = page.locator("#scale div").evaluate("e => e.style.width")
    um = float(words.split()[0]) * (1000 if words.endswith("mm") else 1)
    shown = float(width.removesuffix("px")) / float(moved["zoom"]) * 1.75
    assert shown == pytest.approx(um, rel=0.01)

    compute(page)
    page.select_option("#layer", label="class evidence")
    page.locator("#opacity").fill("80")
    settle(page)
    link, wanted = page.url, hash_of(page)
    assert (wanted["layer"], wanted["opacity"]) == ("class evidence", "80")
    page.get_by_role("button", name="Copy link").is_visible()

    other = watch(served.address)
    other.page.goto(link)
    other.page.wait_for_selector("body[data-ready]")
    settle(other.page)
    restored = hash_of(other.page)
    assert other.page.locator("#layer option:checked").inner_text() == "class evidence"
    assert {k: restored[k] for k in ("slide", "model", "layer", "opacity")} == {
        k: wanted[k] for k in ("slide", "model", "layer", "opacity")
    }
    for key in ("x", "y", "zoom"):
        assert math.isclose(float(restored[key]), float(wanted[key]), rel_tol=0.01, abs_tol=2), key
    other.page.click("#home")
    settle(other.page)
    assert float(hash_of(other.page)["zoom"]) < float(wanted["zoom"])
    watched.require_well()
    other.require_well()


def test_layers_are_switched_and_a_tile_tells_its_scores(watch: Any, served: Served) -> None:
    watched = watch(served.address)
    page = watched.page
    open_slide(page, served.address, 1)
    assert drawn(page) == 0
    compute(page)
    settle(page)
    assert drawn(page) > 1000
    assert "did not learn from this slide" in page.locator("#made-by").inner_text()
    layers = page.locator("#layer option").all_inner_texts()
    assert layers[:2] == ["attention", "class evidence"]
    assert "x an even share" in page.locator("#legend").inner_text()
    picture = page.locator("#overlay").evaluate("c => c.toDataURL()")
    page.select_option("#layer", label="class evidence")
    assert "logits" in page.locator("#legend").inner_text()
    assert page.locator("#overlay").evaluate("c => c.toDataURL()") != picture
    page.locator("#opacity").fill("0")
    assert drawn(page) == 0
    page.locator("#opacity").fill("60")

    scores = page.evaluate(
        """async () => {
          const facts = new URLSearchParams(location.hash.slice(1));
          const query = new URLSearchParams({ model: facts.get("model") });
          return (await fetch(`/api/slides/${facts.get("slide")}/scores?${query}`)).json();
        }"""
    )
    view, box = hash_of(page), page.locator("#picture").bounding_box()
    tile = len(scores["x"]) // 2
    centre = scores["x"][tile] + scores["tile_px0"] / 2, scores["y"][tile] + scores["tile_px0"] / 2
    zoom = float(view["zoom"])
    page.mouse.move(
        box["x"] + box["width"] / 2 + (centre[0] - int(view["x"])) * zoom,
        box["y"] + box["height"] / 2 + (centre[1] - int(view["y"])) * zoom,
    )
    told = page.locator("#hover").inner_text()
    assert told.startswith(f"tile {tile + 1} of {len(scores['x'])}, at ")
    for layer in scores["layers"]:
        found = re.search(rf"{layer['name']}: (\S+) {layer['unit']}", told)
        assert found, told
        assert float(found[1]) == pytest.approx(layer["values"][tile], rel=0.01)
    page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
    assert page.locator("#hover").is_hidden()
    page.select_option("#model", "mean_logistic")
    assert page.locator("#compute").is_visible()
    assert drawn(page) == 0
    watched.require_well()


def test_new_slides_are_predicted_from_a_folder_and_from_an_upload(
    watch: Any, served: Served, painted: Path
) -> None:
    watched = watch(served.address)
    page = watched.page
    page.goto(f"{served.address}predict")
    page.wait_for_selector("#files option", state="attached")
    one, two = sorted((painted / "new" / "slides").glob("*.tif"))
    page.fill("#path", one.name)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.wait_for_selector("#jobs progress")
    page.set_input_files("#file", str(two))
    page.get_by_role("button", name="Upload and predict").click()
    page.wait_for_selector("#jobs li:nth-child(2) a", timeout=LONG_MS)
    page.wait_for_selector("#jobs li:nth-child(1) a", timeout=LONG_MS)
    assert "done in" in page.locator("#jobs").inner_text()
    assert "at or above" in page.locator("#jobs").inner_text() or "below" in (
        page.locator("#jobs").inner_text()
    )
    page.locator("#jobs li:nth-child(1) a").click()
    page.wait_for_selector("body[data-ready]")
    settle(page)
    assert page.locator("#title").inner_text() == two.stem
    assert page.locator("#case").inner_text() == "new slide"
    shown = page.locator("#layer option").all_inner_texts()
    assert shown[:2] == ["attention", "class evidence"]
    assert drawn(page) > 1000
    page.goto(served.address)
    page.wait_for_selector("#cases tbody tr")
    page.select_option("#filter", "new")
    assert {text.split()[0] for text in column(page, 1)} == {one.stem, two.stem}
    watched.require_well()


def test_what_is_refused_is_one_line_on_the_page(
    watch: Any, served: Served, tmp_path: Path
) -> None:
    watched = watch(served.address)
    page = watched.page
    page.goto(f"{served.address}predict")
    page.wait_for_selector("#files option", state="attached")
    page.fill("#path", "../../etc/passwd")
    page.get_by_role("button", name="Predict", exact=True).click()
    page.wait_for_selector("#lines:not([hidden])")
    assert page.locator("#lines").inner_text().startswith("error[D10] ../../etc/passwd")
    fake = tmp_path / f"{HOSTILE.replace('/', '')}.svs"
    fake.write_bytes(b"no slide")
    page.set_input_files("#file", str(fake))
    page.get_by_role("button", name="Upload and predict").click()
    page.wait_for_selector("#jobs .alarm", timeout=LONG_MS)
    assert "error[S03]" in page.locator("#jobs .alarm").first.inner_text()
    assert "<img" in page.locator("#jobs h3").first.inner_text()
    page.goto(f"{served.address}slide#slide=0123456789abcdef")
    page.wait_for_selector("#lines:not([hidden])")
    assert page.locator("#lines").inner_text() == "nothing of this name is served"
    # refusals of the server are the only thing the console may tell
    assert all("status of 40" in fault for fault in watched.faults)
    watched.faults.clear()
    watched.require_well()


def test_hostile_names_are_text_everywhere(watch: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", n=30, word=HOSTILE)
    viewer = Served(run, "--token")
    try:
        home = viewer.address.partition("?")[0]
        stranger = watch(home)
        assert stranger.page.goto(home).status == 401
        watched = watch(home)
        page = watched.page
        page.goto(viewer.address)
        page.wait_for_selector("#cases tbody tr")
        assert "token" not in page.url
        assert page.evaluate("() => document.cookie") == ""
        assert "<img src=x" in page.locator("#cases tbody th").first.inner_text()
        assert "<img src=x" in page.locator("h1").inner_text()
        page.locator("#cases tbody a").first.click()
        page.wait_for_selector("body[data-ready]")
        assert "<img src=x" in page.locator("#title").inner_text()
        assert "no folder given with --slides" in page.locator("#notes").inner_text()
        assert page.locator("img[src='x']").count() == 0
        watched.require_well()
    finally:
        viewer.end()


def test_a_real_section_is_predicted_end_to_end(
    watch: Any, painted: Path, shared_data: Path
) -> None:
    section = shared_data / "her2st" / "C3.jpg"
    if not section.is_file():
        pytest.skip("real sections are absent: ../shared/data/her2st")
    viewer = Served(painted / "run", "--slides", section.parent, "--mpp", SECTION_MPP)
    try:
        watched = watch(viewer.address, color_scheme="dark")
        page = watched.page
        page.goto(f"{viewer.address}predict")
        page.wait_for_selector("#files option", state="attached")
        page.fill("#path", "C3.jpg")
        page.get_by_role("button", name="Predict", exact=True).click()
        page.wait_for_selector("#jobs li a", timeout=LONG_MS)
        page.locator("#jobs li a").first.click()
        page.wait_for_selector("body[data-ready]", timeout=LONG_MS)
        settle(page)
        assert drawn(page) > 1000
        assert page.locator("#layer option").count() == 2
        watched.require_well()
    finally:
        viewer.end()
