"""Every moment of the page, driven in headless Chromium; what it shows is compared with what the library says."""

import base64
import json
import shutil
import time
from urllib.parse import urlparse

import numpy as np
import pytest

import relukit
from relukit.explorer import explore
from relukit.explorer._state import read_settings
from relukit.explorer._trainer import BOX, Trainer

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def served():
    page = explore()
    yield page
    page.close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, served):
    """A fresh tab that notes each request and each error."""
    page = browser.new_page(viewport={"width": 1300, "height": 850})
    page.set_default_timeout(120_000)  # a shared machine can be ten times slower
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(served.url)
    until(page, "window.relukit?.ready")
    yield page
    here = f"127.0.0.1:{served.server.port}"
    assert {urlparse(url).netloc for url in page.asked if not url.startswith("data:")} == {here}
    assert page.errors == []
    page.close()


def until(page, what, seconds=120):
    """The page's policy forbids eval, which Playwright's own waiting needs: ask again and again instead, also of a page that a link replaces."""
    end = time.monotonic() + seconds
    while not _holds(page, what):
        assert time.monotonic() < end, f"never true: {what}"
        time.sleep(0.05)


def _holds(page, what):
    try:
        return page.evaluate(what)
    except Exception as error:
        if "navigation" not in str(error):
            raise
        return False


def frame(page):
    return page.evaluate(
        "({step: relukit.frame.step, count: relukit.frame.count, loss: relukit.frame.loss, area: relukit.frame.area})"
    )


def drawn_area(page):
    """Sum of the polygons' areas, from the arrays that are drawn."""
    return page.evaluate("""() => { const {vertices: v, offsets: o, indices: n} = relukit.frame; let sum = 0;
        for (let k = 0; k + 1 < o.length; k++) for (let i = o[k]; i < o[k + 1]; i++) {
            const a = 2 * n[i], b = 2 * n[i + 1 < o[k + 1] ? i + 1 : o[k]]; sum += (v[a] * v[b + 1] - v[b] * v[a + 1]) / 2; }
        return sum; }""")  # fmt: skip


def library(page):
    """The same run and its pieces, by the library."""
    state = json.loads(page.evaluate("JSON.stringify(relukit.state)"))
    run = Trainer(read_settings(state["settings"]))
    run.run_to(state["step"])
    return run, relukit.regions(run.network(), BOX)


def test_play_splits_and_merges_pieces_exactly(tab):
    before = frame(tab)
    tab.keyboard.press(" ")
    until(tab, "relukit.frame.step >= 25")
    tab.keyboard.press(" ")
    time.sleep(0.5)
    after = frame(tab)
    assert after["loss"] < before["loss"] and after["count"] != before["count"]
    assert after["count"] == len(library(tab)[1])
    assert drawn_area(tab) == pytest.approx(6.25, rel=1e-5)
    assert f"{after['count']}" in tab.inner_text("#numbers")


def test_a_high_rate_kills_and_revive_mends(tab):
    tab.click("#step")
    until(tab, "relukit.frame.step === 1")
    tab.evaluate(
        "() => { const e = document.getElementById('lr'); e.value = 1; e.dispatchEvent(new Event('change')); }"
    )
    until(tab, "relukit.state.settings.events.length === 1")
    for step in range(2, 8):
        tab.click("#step")
        until(tab, f"relukit.frame.step === {step}")
    since = [s for layer in tab.evaluate("relukit.frame.off_since") for s in layer]
    assert max(since) > 0 and f"since step {max(since)}" in " ".join(
        tab.evaluate("[...document.querySelectorAll('#units i.off')].map(c => c.title)")
    )
    assert since == np.concatenate(library(tab)[0].off_since).tolist()
    tab.click("#revive")
    until(tab, "relukit.frame.off_since.flat().every(s => s < 0)")


def test_the_sigmoid_fades_with_depth(tab):
    tab.click("[data-view=compare]")
    until(tab, "relukit.compared !== null", 240)
    table = {row["activation"]: row for row in tab.evaluate("relukit.compared.table")}
    assert len(table) == 7 and tab.locator(".kind").count() == 7
    ratio = {name: row["start"][0] / row["start"][-1] for name, row in table.items()}
    assert ratio["sigmoid"] < 0.02 and ratio["relu"] > 10 * ratio["sigmoid"]
    assert table["gelu"]["count"] is None and table["relu"]["count"] > 100


def test_a_click_shows_piece_and_nearest_boundary(tab):
    for step in range(1, 4):
        tab.click("#step")
        until(tab, f"relukit.frame.step === {step}")
    tab.evaluate(
        "() => { const e = document.getElementById('seed'); e.value = 1; e.dispatchEvent(new Event('change')); }"
    )
    until(tab, "relukit.state.settings.seed === 1 && relukit.frame.step === 0")
    at = tab.locator("#plane").bounding_box()
    tab.mouse.click(at["x"] + 0.52 * at["width"], at["y"] + 0.5 * at["height"])
    until(tab, "relukit.found")
    found = json.loads(tab.evaluate("JSON.stringify(relukit.found)"))
    run, pieces = library(tab)
    network, p = run.network(), np.array(found["point"])
    assert found["label"] == int(network(p[None])[0, 0] > 0) and found["count"] == len(pieces)
    assert np.array(found["slopes"][0]) @ p + found["offset"][0] == pytest.approx(network(p[None])[0, 0], abs=1e-9)
    assert len(found["neighbors"]) >= 2 and "neighbors" in tab.inner_text("#point-text")
    assert f"{found['distance']:.4f}"[:4] in tab.inner_text("#point-text")
    tab.evaluate(
        "() => { const e = document.getElementById('along'); e.value = 0.9; e.dispatchEvent(new Event('input')); }"
    )
    until(tab, "document.getElementById('point-text').textContent.includes('still the same')")
    tab.evaluate(
        "() => { const e = document.getElementById('along'); e.value = 1.05; e.dispatchEvent(new Event('input')); }"
    )
    until(tab, "document.getElementById('point-text').textContent.includes('flipped')")


def on_page(page, p):
    at = page.locator("#plane").bounding_box()
    return at["x"] + (p[0] + 1.25) / 2.5 * at["width"], at["y"] + (1.25 - p[1]) / 2.5 * at["height"]


def test_dragging_the_point_along_its_arrow_flips_the_label(tab):
    for step in range(1, 4):
        tab.keyboard.press("s")
        until(tab, f"relukit.frame.step === {step}")
    tab.mouse.click(*on_page(tab, [0.2, 0.1]))
    until(tab, "relukit.found?.nearest")
    found = json.loads(tab.evaluate("JSON.stringify(relukit.found)"))
    start, end = np.array(found["point"]), np.array(found["nearest"])
    tab.mouse.move(*on_page(tab, start))
    tab.mouse.down()
    tab.mouse.move(*on_page(tab, start + 0.5 * (end - start)))
    until(tab, "document.getElementById('point-text').textContent.includes('still the same')")
    tab.mouse.move(*on_page(tab, start + 1.25 * (end - start)))
    until(tab, "document.getElementById('point-text').textContent.includes('flipped')")
    tab.mouse.up()
    tab.keyboard.press("r")
    until(tab, "relukit.frame.step === 0")


def test_own_points_are_set_by_clicks_and_separated(tab):
    tab.select_option("#data", "points")
    until(tab, "relukit.state.settings.data === 'points'")
    for k, (p, label) in enumerate([([-0.5, 0], "0"), ([0.5, 0], "1"), ([-0.5, 0.5], "0"), ([0.5, 0.5], "1")]):
        tab.select_option("#class", label)
        tab.mouse.click(*on_page(tab, p))
        until(tab, f"relukit.state.settings.points.length === {k + 1}")
    tab.click("#play")
    until(tab, "relukit.frame.step > 40")
    tab.click("#play")
    until(tab, "relukit.frame.accuracy === 1")
    assert [p[2] for p in tab.evaluate("relukit.state.settings.points")] == [0, 1, 0, 1]


def test_reduced_motion_starts_nothing_by_itself_and_steps_slowly(browser, served):
    page = browser.new_page(reduced_motion="reduce")
    page.goto(served.url)
    until(page, "window.relukit?.ready")
    page.click("#moments summary")
    page.click("#moment-list li:first-child a")
    until(page, "window.relukit?.ready && relukit.state.play")
    time.sleep(0.7)
    assert page.evaluate("relukit.frame.step") == 0
    page.click("#play")
    time.sleep(2)
    assert 1 <= page.evaluate("relukit.frame.step") <= 5  # two steps a second
    page.close()


def test_max_needs_a_second_layer(tab):
    tab.click("[data-view=max]")
    until(tab, "relukit.frame?.max_error !== undefined")
    tab.click("#construct")
    until(tab, "document.getElementById('message').textContent.includes('Add a layer')")
    assert tab.evaluate("relukit.state.settings.events.length") == 0
    tab.fill("#depth", "2")
    tab.keyboard.press("Tab")
    until(tab, "relukit.state.settings.widths.length === 2")
    tab.click("#construct")
    until(tab, "relukit.frame.max_error === 0")


def test_a_drawn_curve_is_built_hinge_by_hinge(tab):
    tab.click("[data-view=curve]")
    at = tab.locator("#plane").bounding_box()
    tab.mouse.move(at["x"] + 40, at["y"] + 300)
    tab.mouse.down()
    for k in range(1, 30):
        tab.mouse.move(at["x"] + 40 + 15 * k, at["y"] + 300 + 80 * np.sin(k / 4))
    tab.mouse.up()
    until(tab, "relukit.curve")
    assert tab.evaluate("relukit.curve.knots.length") > 10 and tab.evaluate("relukit.curve.error") < 1e-12
    tab.evaluate(
        "() => { const e = document.getElementById('hinges'); e.value = 3; e.dispatchEvent(new Event('input')); }"
    )
    assert tab.inner_text("#curve-text").startswith("3 of")


def test_a_dropped_onnx_is_opened(tab, tmp_path):
    rng = np.random.default_rng(0)
    network = relukit.load(
        {"W0": rng.normal(size=(6, 3)), "b0": rng.normal(size=6), "W1": rng.normal(size=(2, 6)), "b1": np.zeros(2)}
    )
    relukit.save(network, tmp_path / "small.onnx")
    rows = rng.normal(size=(6, 3))
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",")
    files = [
        {"name": n, "data": base64.b64encode((tmp_path / n).read_bytes()).decode()} for n in ("small.onnx", "rows.csv")
    ]
    tab.evaluate(
        """files => { const held = new DataTransfer();
        for (const f of files) held.items.add(new File([Uint8Array.from(atob(f.data), c => c.charCodeAt(0))], f.name));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true })); }""",
        files,
    )
    until(tab, "relukit.opened", 240)
    opened = json.loads(
        tab.evaluate(
            "JSON.stringify({count: relukit.opened.count, flip: relukit.opened.flip, given: relukit.opened.given})"
        )
    )
    assert opened["given"] and opened["count"] == len(relukit.regions(network, plane=tuple(rows[:3])))
    assert opened["flip"]["distance"] == pytest.approx(relukit.flip(network, rows[0]).distance, rel=1e-4)
    assert "6 units" in tab.inner_text("#health") and "Dense 3 -> 6" in tab.inner_text("#listing")
    tab.reload()  # the link holds the file's key: the page comes back as it was
    until(tab, "window.relukit?.ready")
    until(tab, "relukit.opened")
    assert tab.evaluate("relukit.opened.count") == opened["count"] and tab.evaluate("relukit.opened.given")


def test_smooth_activations_say_that_there_are_no_pieces(tab):
    tab.select_option("#activation", "gelu")
    until(tab, "relukit.frame.grid")
    assert "no exact pieces" in tab.inner_text("#sentence") and tab.evaluate("relukit.frame.count === undefined")


def test_a_link_and_a_reload_hold_the_whole_state(tab, browser):
    tab.select_option("#data", "moons")
    tab.fill("#width", "9")
    tab.keyboard.press("Tab")
    until(tab, "relukit.frame.off_since[0].length === 9")
    for step in range(1, 6):
        tab.click("#step")
        until(tab, f"relukit.frame.step === {step} && location.hash.includes('s=')")
    time.sleep(0.2)
    seen, link = frame(tab), tab.url
    tab.reload()
    until(tab, "window.relukit?.ready")
    assert frame(tab) == seen
    other = browser.new_page()
    other.goto(link)
    until(other, "window.relukit?.ready")
    assert frame(other) == seen
    other.close()


# what each of the moments must show, in the order of the page's list
SEEN = (
    "relukit.frame.step > 3 && relukit.frames > 3",
    "relukit.frame.off_since.flat().includes(143) && document.querySelector('#units i.off').title.includes('since step 143')",
    "relukit.frame.step === 200 && relukit.frame.off_since.flat().every(s => s < 0)",
    "document.querySelectorAll('.kind canvas').length === 7",
    "document.getElementById('point-text').textContent.includes('has flipped')",
    "relukit.found?.neighbors.length >= 3 && document.querySelectorAll('#units i.on').length > 5",
    "relukit.frame.max_error > 0.05",
    "relukit.frame.max_error === 0",
    "relukit.curve?.knots.length === 24 && document.getElementById('curve-text').textContent.startsWith('9 of')",
    "relukit.opened?.flip.distance > 0 && document.getElementById('health').textContent.includes('16 units')",
)


@pytest.mark.parametrize("k", range(len(SEEN)))
def test_each_moment_is_reached_by_its_link_in_a_fresh_browser(tab, browser, served, k):
    links = tab.evaluate("[...document.querySelectorAll('#moment-list a')].map(a => a.href)")
    assert len(links) == len(SEEN)
    fresh = browser.new_context().new_page()
    errors = []
    fresh.on("pageerror", lambda error: errors.append(str(error)))
    fresh.goto(links[k])
    until(fresh, f"window.relukit?.ready && {SEEN[k]}")
    if k:  # the first one plays on
        time.sleep(0.3)
        seen, again = fresh.evaluate("JSON.stringify(relukit.state)"), browser.new_context().new_page()
        again.goto(fresh.url)
        until(again, f"window.relukit?.ready && {SEEN[k]}")
        time.sleep(0.3)
        assert json.loads(again.evaluate("JSON.stringify(relukit.state)")) == json.loads(seen)
        again.context.close()
    fresh.context.close()
    assert errors == []


def test_a_chosen_moment_changes_the_open_page(tab):
    tab.click("#moments summary")
    tab.click("#moment-list li:nth-child(2) a")
    until(tab, "window.relukit?.ready && relukit.frame?.step === 146")


def test_two_tabs_train_apart_and_one_may_close_while_training(tab, browser, served):
    other = browser.new_page()
    other.goto(served.url)
    until(other, "window.relukit?.ready")
    other.click("#play")
    tab.click("#play")
    until(other, "relukit.frame.step > 5")
    other.close()
    step = tab.evaluate("relukit.frame.step")
    until(tab, f"relukit.frame.step > {step + 5}")
    tab.click("#play")
    time.sleep(0.5)
    assert frame(tab)["count"] == len(library(tab)[1])


def test_without_the_token_the_page_says_so(browser, served):
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{served.server.port}/")
    until(page, "document.getElementById('message').textContent.includes('token')")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(browser, served, scheme):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(served.url)
    until(page, "window.relukit?.ready")
    for view in ("train", "compare", "max", "curve", "open"):
        page.click(f"[data-view={view}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        narrow = (
            "[...document.querySelectorAll('select, input')].filter(e => e.offsetWidth && e.offsetWidth < 150).length"
        )
        assert page.evaluate(narrow) == 0
    page.close()


def test_the_point_is_reached_by_keyboard(tab):
    tab.focus("#plane")
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    until(tab, "relukit.found")
    assert tab.evaluate("relukit.found.point[0]") == pytest.approx(0.15)
