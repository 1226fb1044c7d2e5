"""The interactive figure in a real browser: what it shows is golden.json's, for every reader."""

import html
import re

import pytest

from minires.explain import figure
from minires.explain.figure import measure, text

STEPS = 8
BLOCK = figure.golden()["block"]
VISIBLE = """[...document.querySelectorAll(".mr-stage [data-v]")]
    .filter((text) => getComputedStyle(text).visibility === "visible")
    .map((text) => [text.dataset.v, text.textContent])"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "skip.html"
    path.write_text(figure.page(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(page_at, address):
    def open_figure(width=1280, state="", **context):
        page = page_at(width, **context)
        page.goto(address + (f"?skip={state}" if state else ""))
        if context.get("java_script_enabled", True):
            page.wait_for_selector(".mr-skip.mr-on")
            drawn(page)
        return page

    return open_figure


def drawn(page):
    """Waits until the columns have followed the settings: they are drawn in the next frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def told(page):
    return page.inner_text(".mr-live")


def table(page):
    """The columns' table: [(layer, plain, skip)] as the reader sees it."""
    rows = page.eval_on_selector_all(".mr-layers tr", "rows => rows.map((r) => [...r.cells].map((c) => c.textContent))")
    return [(int(layer), plain, skip) for layer, plain, skip in rows]


def golden_table(settings, dropped=False):
    (norms,) = (case["norms"] for case in figure.golden()["cases"] if case["settings"] == measure.DEFAULTS | settings)
    plain, skip = norms["plain"], norms["dropped" if dropped else "skip"]
    shares = [(layer, plain[layer] / plain[-1], skip[layer] / skip[-1]) for layer in range(len(plain))]
    return [(layer, text.short(p), text.short(s)) for layer, p, s in reversed(shares)]


def golden_verdict(settings, dropped=False):
    (norms,) = (case["norms"] for case in figure.golden()["cases"] if case["settings"] == measure.DEFAULTS | settings)
    plain, skip = (norms[name][0] / norms[name][-1] for name in ("plain", "dropped" if dropped else "skip"))
    return f"Plain: {text.fate(plain)}. With skips{', +1 dropped' if dropped else ''}: {text.fate(skip)}."


# --- the block


@pytest.mark.parametrize("dropped", [False, True])
def test_every_step_by_keyboard_tells_the_golden_numbers(opened, dropped):
    page = opened(state="dropped-1" if dropped else "")
    numbers = text.shown(BLOCK["kept"], BLOCK["dropped" if dropped else "kept"])
    last = ["gx", "whole"] if dropped else ["sumgx"]
    expected = [["x"], ["f"], ["x"], ["sumy"], ["g"], ["g", "skip"], ["branch"], last]
    page.focus("[data-go=play]")
    for step, names in enumerate(expected, 1):
        assert f"Step {step} of {STEPS}" in told(page)
        assert page.get_attribute("[aria-current=step]", "data-go") == str(step)
        for name in names:
            assert numbers[name] in told(page)
        shown = page.evaluate(VISIBLE)
        assert all(numbers[name] == value for name, value in shown)
        assert len(shown) == 2 * [1, 3, 4, 5, 6, 8, 9, 10][step - 1]
        page.keyboard.press("ArrowRight")
    assert f"Step {STEPS} of {STEPS}" in told(page)
    page.keyboard.press("ArrowLeft")
    assert f"Step {STEPS - 1} of {STEPS}" in told(page)
    page.keyboard.press("Home")
    assert f"Step 1 of {STEPS}" in told(page)
    page.keyboard.press("End")
    assert f"Step {STEPS} of {STEPS}" in told(page)
    assert page.get_attribute(".mr-live", "aria-live") == "polite"


def test_tab_reaches_every_control_and_the_buttons_work_without_a_mouse(opened):
    page = opened()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("(({ dataset: d, tagName }) => d.go ?? d.set ?? d.preset ?? tagName)(document.activeElement)")
        )
    assert set(reached) >= {"back", "play", "next", *map(str, range(1, 9)), "dropped", "draw"}
    assert set(reached) >= {"depth", "gain", "scale", "act", "norm", "SUMMARY"}
    page.focus("[data-go=next]")
    page.keyboard.press("Enter")
    assert "Step 2" in told(page)
    page.focus("[data-go='7']")
    page.keyboard.press("Space")
    assert "Step 7" in told(page)
    page.focus("[data-go=back]")
    page.keyboard.press("Enter")
    assert "Step 6" in told(page)


def test_play_goes_through_all_steps_and_stops(opened):
    page = opened()
    page.clock.install()
    page.click("[data-go=play]")
    assert page.inner_text("[data-go=play]") == "Pause"
    for step in range(2, STEPS + 1):
        assert f"Step {step}" in told(page)
        page.clock.run_for(3000)
    assert page.inner_text("[data-go=play]") == "Play"
    page.click("[data-go=play]")
    assert "Step 1" in told(page)
    page.click("[data-go=play]")
    page.clock.run_for(9000)
    assert "Step 1" in told(page)


def test_the_switch_drops_the_plus_one_in_the_block_and_in_the_columns(opened):
    page = opened(state="step-8")
    kept, dropped = (text.shown(BLOCK["kept"], BLOCK[kind]) for kind in ("kept", "dropped"))
    assert kept["sumgx"] in told(page)
    badge = page.locator(".mr-badge-text:visible")
    assert badge.text_content() == "+1"
    switches = page.get_by_role("switch", name="Drop the +1")
    assert switches.count() == 2
    switches.first.focus()
    page.keyboard.press("Space")
    drawn(page)
    assert dropped["gx"] in told(page)
    assert kept["sumgx"] not in told(page)
    assert badge.text_content() == "×0"
    assert switches.nth(1).is_checked()
    assert page.inner_text(".mr-columns").count("With skips, +1 dropped") == 1
    assert table(page) == golden_table({}, dropped=True)
    assert page.inner_text(".mr-verdict") == golden_verdict({}, dropped=True)
    switches.nth(1).focus()
    page.keyboard.press("Space")
    drawn(page)
    assert kept["sumgx"] in told(page)
    assert table(page) == golden_table({})


# --- the columns


def test_sliders_and_lists_change_the_columns_to_the_golden_numbers(opened):
    page = opened()
    assert table(page) == golden_table({})
    page.focus("[data-set=gain]")
    page.keyboard.press("End")
    page.focus("[data-set=depth]")
    page.keyboard.press("End")
    drawn(page)
    assert table(page) == golden_table({"gain": 1.6, "depth": 110})
    page.focus("[data-set=gain]")
    page.keyboard.press("Home")
    drawn(page)
    assert table(page) == golden_table({"gain": 0.5, "depth": 110})
    assert page.get_attribute("[data-set=depth]", "aria-valuetext") == "110"
    page.goto(page.url.split("?")[0] + "?skip=depth-6_seed-1_gain-0.5")
    for act, norm in (("relu", "none"), ("tanh", "batch"), ("relu", "layer")):
        for scale in measure.SCALES:
            for name, value in (("act", act), ("norm", norm), ("scale", scale)):
                page.select_option(f"[data-set={name}]", value)
            drawn(page)
            settings = {"depth": 6, "seed": 1, "gain": 0.5, "act": act, "norm": norm, "scale": scale}
            assert table(page) == golden_table(settings)
            assert page.inner_text(".mr-verdict") == golden_verdict(settings)


def test_every_preset_is_a_golden_case_and_its_verdict_falsifies_a_slogan_or_not(opened):
    page = opened()
    known = [case["settings"] for case in figure.golden()["cases"]]
    presets = page.locator("[data-preset]")
    verdicts = []
    for i in range(presets.count()):
        presets.nth(i).click()
        drawn(page)
        assert presets.nth(i).get_attribute("aria-pressed") == "true"
        assert any(table(page) == golden_table(settings) for settings in known[: presets.count()])
        verdicts.append(page.inner_text(".mr-verdict"))
    assert len(set(verdicts)) == presets.count()
    assert "Plain: stays" in verdicts[1]
    assert "With skips: grows" in verdicts[1]


def test_numbers_beyond_thirty_decades_are_marked_not_drawn_as_if_they_fitted(opened):
    page = opened(state="gain-0.5_depth-110")
    assert table(page)[-1][1] == "<1e-30"
    assert page.locator(".mr-chart").first.locator(".mr-beyond").count() == sum(r[1] == "<1e-30" for r in table(page))
    assert page.locator(".mr-chart").nth(1).locator(".mr-beyond").count() == 0


def test_other_random_weights_change_the_numbers_and_not_the_story(opened):
    page = opened()
    page.click("[data-go=draw]")
    drawn(page)
    assert table(page) != golden_table({})
    assert re.fullmatch(r"Plain: fades by \d\.\de\d\. With skips: grows by \d\.\de\d\.", page.inner_text(".mr-verdict"))


def test_the_page_itself_finds_no_deviation_from_minires(opened):
    page = opened()
    many = len(figure.golden()["cases"])

    def deviation(cases):
        done = f"document.querySelector('.mr-deviation').textContent.includes(' {cases} of {many} ')"
        page.wait_for_function(done, timeout=30_000)
        return float(page.inner_text(".mr-deviation").split()[0])

    assert deviation(1) < 1e-10
    page.click(".mr-compare")
    assert 0 < deviation(many) < 1e-10


# --- every reader


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_violation(opened, axe, scheme, width):
    page = opened(width, "step-6_dropped-1", color_scheme=scheme, reduced_motion="reduce")
    assert axe(page) == []
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    page.keyboard.press("Tab")
    assert axe(page) == []


@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("script", [True, False])
def test_nothing_sticks_out_sideways(opened, width, script):
    page = opened(width, java_script_enabled=script)
    for step in range(1, STEPS + 1) if script else [1]:
        if script:
            page.click(f"[data-go='{step}']")
        page.locator("summary").first.click()
        for element in ("html", ".mr-skip", ".mr-stage", ".mr-story", ".mr-columns"):
            box = page.locator(element).first.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width + 0.5, (element, step)
        if script:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_buttons_stay_where_they_are_while_a_reader_steps(opened):
    for width in (360, 1280):
        page = opened(width)
        tops = set()
        for step in range(1, STEPS + 1):
            page.click(f"[data-go='{step}']")
            tops.add(page.locator("[data-go=next]").bounding_box()["y"] + page.evaluate("scrollY"))
        assert len(tops) == 1


def test_motion_only_where_the_reader_has_not_asked_for_less(opened):
    moving = "document.getAnimations().length"
    for motion, some in (("no-preference", True), ("reduce", False)):
        page = opened(reduced_motion=motion)
        page.click("[data-go=next]")
        assert (page.evaluate(moving) > 0) is some


def test_without_javascript_every_step_and_number_is_there(opened):
    for width in (360, 1280):
        page = opened(width, java_script_enabled=False)
        steps = page.locator(".mr-steps li")
        assert steps.count() == STEPS
        assert all(step.is_visible() for step in steps.all())
        numbers = text.shown(BLOCK["kept"], BLOCK["kept"])
        for name in ("x", "f", "sumy", "g", "branch", "sumgx"):
            assert numbers[name] in page.locator(".mr-steps").inner_text()
        assert page.locator(".mr-verdict").inner_text() == golden_verdict({})
        assert page.locator(".mr-chart svg").count() == 2
        assert not any(button.is_visible() for button in page.locator(".mr-skip button, .mr-skip input").all())
        page.locator("summary").nth(1).click()
        found = page.locator(".mr-layers").inner_html()
        rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>([^<]+)</td><td>([^<]+)</td></tr>', found)
        assert [(int(n), html.unescape(p), html.unescape(s)) for n, p, s in rows] == golden_table({})


def test_on_paper_all_steps_stand_and_no_button(opened):
    page = opened(720, "step-2")
    page.emulate_media(media="print", color_scheme="dark")
    assert all(step.is_visible() for step in page.locator(".mr-steps li").all())
    assert not any(button.is_visible() for button in page.locator(".mr-skip button").all())
    assert len(page.evaluate(VISIBLE)) == page.locator(".mr-stage [data-v]").count() == 20
    assert page.evaluate("getComputedStyle(document.querySelector('.mr-skip')).backgroundColor") == "rgb(255, 255, 255)"


def test_the_host_page_s_theme_wins_over_the_system_s(opened):
    page = opened(color_scheme="light")
    paper = "getComputedStyle(document.querySelector('.mr-skip')).backgroundColor"
    light = page.evaluate(paper)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    dark = page.evaluate(paper)
    assert light != dark
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert page.evaluate(paper) == light


# --- the address


def test_the_address_holds_the_state_and_back_takes_a_change_back(page_at, serve, tmp_path):
    (tmp_path / "index.html").write_text(figure.page(), encoding="utf-8")
    page = page_at(1280)
    page.goto(serve(tmp_path) + "/index.html?host=1#below")
    for _ in range(3):
        page.click("[data-go=next]")
    page.locator("[data-set=dropped]").first.check()
    page.select_option("[data-set=act]", "tanh")
    drawn(page)
    assert page.evaluate("location.hash") == "#below"
    assert page.evaluate("new URLSearchParams(location.search).get('host')") == "1"
    before = told(page), table(page), page.url
    page.reload()
    page.wait_for_selector(".mr-skip.mr-on")
    drawn(page)
    assert (told(page), table(page), page.url) == before
    assert page.input_value("[data-set=act]") == "tanh"
    page.go_back()
    drawn(page)
    assert page.input_value("[data-set=act]") == "relu"
    assert page.locator("[data-set=dropped]").first.is_checked()
    page.go_back()
    assert not page.locator("[data-set=dropped]").first.is_checked()
    assert "Step 4" in told(page)
    page.go_back()  # the three steps were one run
    assert "Step 1" in told(page)
    assert "skip=" not in page.url
    page.go_forward()
    assert "Step 4" in told(page)


def test_two_figures_on_a_page_keep_apart_and_a_framed_one_leaves_the_address_alone(page_at, serve, tmp_path):
    (tmp_path / "two.html").write_text(f"<!doctype html><title>two</title>{figure.fragment() * 2}", encoding="utf-8")
    (tmp_path / "frame.html").write_text("<!doctype html><title>frame</title><iframe src=two.html>", encoding="utf-8")
    page = page_at(1280)
    here = serve(tmp_path)
    page.goto(here + "/two.html?skip=step-3&skip2=step-6")
    first, second = page.locator(".mr-skip").all()
    assert "Step 3" in first.locator(".mr-live").inner_text()
    assert "Step 6" in second.locator(".mr-live").inner_text()
    second.locator("[data-go=next]").click()
    assert "skip=step-3&skip2=step-7" in page.url
    assert "Step 3" in first.locator(".mr-live").inner_text()
    page.goto(here + "/frame.html")
    frame = page.frame_locator("iframe")
    frame.locator("[data-go=next]").first.click()
    assert "Step 2" in frame.locator(".mr-live").first.inner_text()
    assert page.url == here + "/frame.html"
    assert [f.url for f in page.frames] == [here + "/frame.html", here + "/two.html"]


def test_nonsense_in_the_address_does_no_harm(opened):
    page = opened(state="step-99_gain-NaN_scale-<b>_act-constructor_depth-")
    assert f"Step {STEPS}" in told(page)
    assert table(page) == golden_table({})
