"""What the viewer answers: cases, slides, heat maps, jobs, uploads; and hostile requests."""

import shutil
import time

import pytest
from starlette.testclient import TestClient

from momkd.file_names import file_names
from momkd.viewer.application import make_application
from momkd.viewer.catalogue import run_key
from tests.pictures import paint_slide, write_aperio, write_pyramid
from tests.viewer_parts import OWN, entry_of, make_viewer, write_scores

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "../../etc/passwd"]
HOSTILE += ["x" * 300, "é" * 300, "a/b", "C:\\a", "%2e%2e", "\u202egpj.exe", "a\0b", "", "..", " "]


class Site:
    """A viewer and somebody who asks it."""

    def __init__(self, viewer):
        self.viewer = viewer
        base = "http://127.0.0.1:8000"
        self.client = TestClient(make_application(viewer), base_url=base, headers=OWN)

    def get(self, place, status=200):
        answer = self.client.get(place)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer

    def post(self, place, status=200, **how):
        answer = self.client.post(place, **how)
        assert answer.status_code == status, answer.text
        return answer.json()

    def wait_for(self, job):
        while job["state"] in ("waiting", "running"):
            time.sleep(0.02)
            job = self.get(f"/api/jobs/{job['key']}")
        return job


@pytest.fixture
def make_site(tmp_path):
    made = []

    def make(*entries, **options):
        site = Site(make_viewer(tmp_path, *entries, **options))
        made.append(site)
        return site

    yield make
    for site in made:
        site.viewer.jobs.close()
        site.client.close()


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_pyramid(folder / "s.tif", paint_slide(1))
    write_pyramid(folder / "new.tif", paint_slide(2))
    return folder


def test_cases_are_told_with_scores_errors_and_slides(make_site, painted):
    one, two = entry_of("s", "c1", 1, 0.25), entry_of("t", "c1", 1, 0.75)
    other = entry_of("u", "c2", 0, 0.75)
    site = make_site(one, two, other, slides=[painted])
    run = site.get("/api/run")
    assert (run["task"], run["class_names"], run["models"]) == (
        "HER2",
        ["no HER2", "HER2"],
        ["momkd"],
    )
    first, second = site.get("/api/cases")["cases"]
    assert (first["case"], first["label"]) == ("c1", 1)
    score = first["scores"]["momkd"]
    assert (score["probability"], score["called"], score["error"]) == (0.5, 1, 0.5)
    assert [s["has_pixels"] for s in first["slides"]] == [True, False]
    assert second["scores"]["momkd"]["error"] == 0.75
    assert site.get("/api/files")["files"] == ["new.tif"]


def test_a_slide_is_shown_with_its_scale_and_tiles(make_site, painted):
    site = make_site(entry_of("s"), entry_of("t"), slides=[painted])
    told = site.get(f"/api/slides/{run_key('s')}")
    picture = told["picture"]
    assert (picture["width_px0"], picture["last_level"], picture["mpp"]) == (1024, 10, 1.0)
    tile = site.get(f"/api/slides/{run_key('s')}/tiles/10/3/3")
    assert tile.headers["content-type"] == "image/jpeg"
    assert tile.headers["cache-control"] == "private, max-age=3600"
    assert tile.content.startswith(b"\xff\xd8")
    assert b"Exif" not in tile.content[:200]
    for place in ("10/4/0", "11/0/0", "-1/0/0"):
        site.get(f"/api/slides/{run_key('s')}/tiles/{place}", 404)
    site.get(f"/api/slides/{run_key('t')}/tiles/0/0/0", 404)
    missing = site.get(f"/api/slides/{run_key('t')}")
    assert missing["picture"] is None
    assert missing["lines"] == ["The picture is not shown: no slide of this name below --slides."]


def test_a_damaged_slide_is_told_in_one_line_without_its_folder(make_site, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "s.tif").write_bytes(
        write_pyramid(tmp_path / "w.tif", paint_slide(1)).read_bytes()[:9000]
    )
    site = make_site(entry_of("s"), slides=[folder])
    (line,) = site.get(f"/api/slides/{run_key('s')}")["lines"]
    assert line.startswith("error[S04] s.tif: ")
    tile = site.get(f"/api/slides/{run_key('s')}/tiles/0/0/0", 400)
    assert tile["lines"] == [line]


def test_label_and_macro_have_no_address(make_site, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    write_aperio(folder / "s.svs", paint_slide(1), paint_slide(2)[:64, :64])
    site = make_site(entry_of("s"), slides=[folder])
    key = run_key("s")
    assert site.get(f"/api/slides/{key}")["picture"]["width_px0"] == 1024
    for name in ("label", "macro", "associated", "thumbnail", "tiles", "tiles/label/0/0"):
        assert site.client.get(f"/api/slides/{key}/{name}").status_code in (404, 422)


def test_stored_scores_are_found_and_fit_the_slide_or_are_not_drawn(make_site, painted, tmp_path):
    folder = tmp_path / "attention"
    (folder / "momkd").mkdir(parents=True)
    write_scores(folder / "momkd" / "s.h5", "s")
    write_scores(folder / "new.h5", "new", side=4096)
    site = make_site(entry_of("s"), entry_of("new"), slides=[painted], score_folders=[folder])
    assert site.get(f"/api/slides/{run_key('s')}")["stored"] == ["momkd"]
    told = site.get(f"/api/slides/{run_key('s')}/scores?model=momkd")
    assert [layer["name"] for layer in told["layers"]] == ["attention", "class evidence"]
    assert told["lines"] == []
    assert len(told["x"]) == 16
    other = site.get(f"/api/slides/{run_key('new')}/scores?model=momkd")
    assert other["lines"][0].startswith("error[S16] scores are of a slide of 4096 x 4096 px")
    assert other["x"] is None
    site.get(f"/api/slides/{run_key('s')}/scores?model=abmil", 404)
    site.get(f"/api/slides/{run_key('s')}/scores?model=../momkd", 404)


def test_scores_are_found_by_the_names_that_predict_gives_them(make_site, tmp_path):
    ids = ("Slide", "slide", "long" * 70)
    folder = tmp_path / "momkd"
    folder.mkdir()
    for slide_id, name in file_names(ids, ".h5").items():
        write_scores(folder / name, slide_id)
    site = make_site(*map(entry_of, ids), entry_of("SLIDE"), score_folders=[tmp_path])
    stored = {i: site.get(f"/api/slides/{run_key(i)}")["stored"] for i in (*ids, "SLIDE")}
    assert stored == {**{i: ["momkd"] for i in ids}, "SLIDE": []}


def test_scores_outside_their_folder_are_not_read(make_site, tmp_path):
    folder = tmp_path / "attention"
    folder.mkdir()
    write_scores(tmp_path / "s.h5", "s")
    (folder / "s.h5").symlink_to(tmp_path / "s.h5")
    site = make_site(entry_of("s"), entry_of("../s"), score_folders=[folder])
    for slide_id in ("s", "../s"):
        assert site.get(f"/api/slides/{run_key(slide_id)}")["stored"] == []


def test_a_heat_map_is_computed_by_a_job_and_drawn_without_a_picture_too(make_site):
    site = make_site(entry_of("s"))
    place = f"/api/slides/{run_key('s')}/scores?model=momkd"
    site.get(place, 404)
    job = site.wait_for(site.post(place))
    assert job["state"] == "done", job
    assert job["answer"] == {"slide": run_key("s"), "model": "momkd"}
    told = site.get(place)
    assert told["frame"]["width_px0"] == 1024
    assert told["frame"]["mpp"] == 1.0
    site.post(place.replace("momkd", "abmil"), 404)


def test_a_new_slide_is_predicted_and_joins_the_list(make_site, painted):
    site = make_site(entry_of("s"), slides=[painted])
    job = site.wait_for(site.post("/api/jobs", json={"path": "new.tif"}))
    assert job["state"] == "done", job
    (slide,) = job["answer"]["slides"]
    assert slide["scores"]["momkd"]["probability"] == 0.9
    assert site.get(f"/api/slides/{slide['key']}")["picture"]["width_px0"] == 1024
    new = site.get("/api/cases")["cases"][1]
    assert (new["case"], new["is_new"], new["label"]) == ("new", True, None)
    assert new["scores"]["momkd"]["error"] is None
    assert site.get("/api/files")["files"] == []
    assert [j["name"] for j in site.get("/api/jobs")["jobs"]] == ["new.tif"]


@pytest.mark.parametrize("path", ["../s.tif", "/etc/passwd", "", "new.tif\0", "x" * 5000, "new"])
def test_paths_beyond_the_folders_are_refused(make_site, painted, path):
    site = make_site(slides=[painted])
    told = site.post("/api/jobs", 403, json={"path": path})
    assert told["lines"][0].startswith("error[D10]")
    assert site.viewer.labour.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"path": 1}', b"\xff", b"[" * 60_000])
def test_bodies_that_say_nothing_are_refused(make_site, body):
    site = make_site()
    assert site.post("/api/jobs", 400, content=body)["lines"] == ['wanted {"path": "..."}']
    site.client.post("/api/jobs", content=b"x" * 70_000)


def test_an_upload_is_kept_under_a_safe_name_and_predicted(make_site, painted):
    site = make_site()
    content = (painted / "s.tif").read_bytes()
    for name, kept in (("mine.tif", "mine.tif"), ("<b>\u202e" + "x" * 300 + ".tif", "upload-")):
        job = site.post("/api/uploads", params={"name": name}, content=content)
        assert job["name"] == name
        assert site.wait_for(job)["state"] == "done"
        path = site.viewer.labour.asked[-1]
        assert path.read_bytes() == content
        assert path.name.startswith(kept)
        assert path.is_relative_to(site.viewer.work_folder)


def leftovers(site):
    return [p for p in site.viewer.work_folder.rglob("*") if p.is_file()]


def test_uploads_that_do_not_arrive_whole_leave_nothing(make_site):
    site = make_site(max_upload_gib=2**-20)  # 1 KiB
    head = {"name": "a.svs"}
    told = site.client.post("/api/uploads", params=head, content=b"x" * 2000)
    assert told.status_code == 413
    told = site.client.post("/api/uploads", params=head, content=iter([b"x" * 800] * 3))
    assert told.status_code in (411, 413)
    lengths = {"content-length": "900"}
    told = site.client.post("/api/uploads", params=head, content=b"x" * 100, headers=lengths)
    assert told.json()["lines"][0].startswith("error[D09] a.svs: 100 of 900 bytes came")
    lengths = {"content-length": "100"}
    told = site.client.post("/api/uploads", params=head, content=b"x" * 900, headers=lengths)
    assert told.status_code in (400, 413)
    for name, status in (("a.exe", 403), ("a.mrxs", 400), ("", 403)):
        site.post("/api/uploads", status, params={"name": name}, content=b"x")
    assert site.client.post("/api/uploads", content=b"x").status_code == 422
    assert leftovers(site) == []
    assert site.viewer.labour.asked == []


def test_a_full_disk_is_said_before_anything_is_written(make_site, monkeypatch):
    site = make_site()
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    told = site.post("/api/uploads", 507, params={"name": "a.svs"}, content=b"x" * 100)
    assert "no room" in told["lines"][0]
    assert leftovers(site) == []


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_names_travel_as_text_and_reach_no_path(make_site, painted, tmp_path, word):
    site = make_site(entry_of(word, word), slides=[painted], score_folders=[tmp_path])
    (case,) = site.get("/api/cases")["cases"]
    assert case["case"] == word
    (slide,) = case["slides"]
    assert slide["name"] == word
    told = site.get(f"/api/slides/{slide['key']}")
    assert told["slide"] == word
    assert (told["picture"], told["stored"]) == (None, [])
    raw = site.client.get("/api/cases")
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-content-type-options"] == "nosniff"


PLACES = ["/static/../guard.py", "/static/%2e%2e/guard.py", "/static/..%2fguard.py", "/static/"]
PLACES += ["/static//etc/passwd", "/static/viewer.css/", "/static/x%00.css", "/docs", "/redoc"]
PLACES += ["/openapi.json", "/api", "/api/slides/../../etc", "/api/slides/" + "x" * 300, "/work"]


@pytest.mark.parametrize("place", PLACES)
def test_nothing_but_what_is_meant_is_served(make_site, place):
    site = make_site(entry_of("s"))
    answer = site.client.get(place, follow_redirects=False)
    assert answer.status_code in (307, 404), (place, answer.status_code)
    assert "import" not in answer.text


def test_pages_and_their_parts_are_served_with_their_kinds(make_site):
    site = make_site()
    for place in ("/", "/slide", "/predict"):
        page = site.client.get(place)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "momkd viewer" in page.text
    kinds = {"viewer.css": "text/css", "slide.js": "text/javascript", "glass.png": "image/png"}
    for name, kind in kinds.items():
        part = site.client.get(f"/static/{name}")
        assert part.headers["content-type"].startswith(kind)
        assert part.headers["cache-control"] == "no-cache"
    assert site.client.head("/").status_code == 200


def test_a_queue_that_is_full_keeps_no_upload(make_site, monkeypatch):
    site = make_site(most_waiting=1)

    def refuse(*_):
        from momkd.errors import MachineError

        raise MachineError.of("D12", "viewer", "1 jobs are waiting, no more are taken")

    monkeypatch.setattr(site.viewer.jobs, "put", refuse)
    told = site.post("/api/uploads", 429, params={"name": "a.svs"}, content=b"x")
    assert told["lines"][0].startswith("error[D12]")
    assert leftovers(site) == []
