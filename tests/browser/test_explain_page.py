"""The page in a browser: every step by keyboard, told aloud and shown; without JavaScript all of it is there."""

import pytest

from minires import explain


@pytest.fixture
def shown(page_at, tmp_path):
    """shown(walk, width, ...) -> its page in the browser."""

    def show(walk, width=1000, **context):
        path = tmp_path / "walk.html"
        path.write_text(walk.page(), encoding="utf-8")
        page = page_at(width, **context)
        page.goto(path.as_uri())
        return page

    return show


def test_every_step_by_keyboard(shown):
    walk = explain.expression("x + tanh(w * x)", {"x": 0.5, "w": 2.0})
    page = shown(walk)
    page.focus('[data-go="1"]')
    for at in range(2 * len(walk.steps)):
        page.keyboard.press("ArrowRight")
        said = page.inner_text(".said")
        step = walk.steps[at] if at < 3 else walk.steps[5 - at]
        assert said.startswith(f"{'Forward' if at < 3 else 'Backward'}, {at + 1} of 6. Step {step.number}, {step.op}")
        assert page.inner_text(".card .op").startswith(f"{step.number} {step.op}")
        assert page.locator("[data-node].now").get_attribute("data-node") == str(step.number)
    assert "skip 1 + branch 0.8399 = 1.84" in said
    page.keyboard.press("ArrowRight")  # past the end nothing happens, and the focus stays
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(".said").startswith("Backward, 5 of 6")
    page.click('[data-go="0"]')
    assert page.locator(".now, .later").count() == 0


def test_gradients_appear_when_their_step_has_come(shown):
    page = shown(explain.expression("x + tanh(w * x)", {"x": 0.5, "w": 2.0}))
    for _ in range(5):  # forward 1 2 3, backward 3 2
        page.click('[data-go="1"]')
    assert page.locator('path.gradient.later[data-step="1"]').count() == 2
    assert page.locator('path.gradient.later:not([data-step="1"])').count() == 0


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["block", "preact"])
def test_no_page_is_wider_than_its_window(shown, width, name):
    page = shown(explain.block(name), width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.querySelector('.graph').scrollWidth") >= 300


def test_without_javascript_all_steps_are_there_and_no_dead_buttons(shown):
    page = shown(explain.block(), java_script_enabled=False)
    assert page.locator(".controls").is_hidden()
    assert page.locator(".backward-steps > li").count() == 4


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(shown, axe, color_scheme):
    page = shown(explain.block("preact"), color_scheme=color_scheme)
    assert axe(page) == []
    page.click('[data-go="1"]')
    assert axe(page) == []


def test_axe_finds_nothing_wrong_with_unfolded_numbers_on_a_telephone(shown, axe):
    page = shown(explain.block("prenorm"), 360)
    assert page.evaluate("[...document.querySelectorAll('details')].map((d) => (d.open = true)).length") > 0
    assert axe(page) == []
