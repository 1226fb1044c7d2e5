"""The interactive figure: golden.json is what minires computes now, and everything that is shown comes from it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minires
from minires.explain import figure
from minires.explain.figure import draw, measure, text

HERE = Path(__file__).parent


def relative(computed, golden):
    computed, golden = np.array(computed), np.array(golden)
    assert computed.shape == golden.shape
    return float(np.max(np.abs(computed - golden) / np.where(golden == 0, 1, np.abs(golden))))


def script():
    (found,) = re.findall(r'<script type="module">\n(.*?)</script>', figure.fragment(), re.DOTALL)
    return found


# --- the numbers


def test_golden_json_holds_what_minires_measures_now():
    fresh, committed = measure.measured(), figure.golden()
    for kind in ("kept", "dropped"):
        assert list(fresh["block"][kind]) == list(committed["block"][kind])
        for name, part in fresh["block"][kind].items():
            assert relative(part, committed["block"][kind][name]) < 1e-10
    assert [case["settings"] for case in fresh["cases"]] == [case["settings"] for case in committed["cases"]]
    for new, old in zip(fresh["cases"], committed["cases"], strict=True):
        for column in ("plain", "skip", "dropped"):
            assert relative(new["norms"][column], old["norms"][column]) < 1e-10, (old["settings"], column)


def test_the_block_s_gradient_is_g_plus_the_transposed_jacobian_times_g():
    kept, dropped = measure.block(), measure.block(dropped=True)
    x, w, g = (np.array(measure.BLOCK[name]) for name in ("x", "w", "g"))
    step = 1e-6
    jacobian = np.stack([(np.tanh(w @ (x + e)) - np.tanh(w @ (x - e))) / (2 * step) for e in step * np.eye(2)], 1)
    np.testing.assert_allclose(kept["branch"], jacobian.T @ g, rtol=1e-8)
    np.testing.assert_array_equal(kept["skip"], g)
    np.testing.assert_allclose(kept["gx"], g + jacobian.T @ g, rtol=1e-7)
    np.testing.assert_array_equal(dropped["skip"], [0, 0])
    np.testing.assert_allclose(dropped["gx"], jacobian.T @ g, rtol=1e-8)


def test_the_block_shows_that_the_plus_one_is_no_floor():
    kept = figure.golden()["block"]["kept"]
    assert abs(kept["gx"][0]) < 0.02 * abs(kept["g"][0])
    assert abs(kept["gx"][1]) > 1.9 * abs(kept["g"][1])


@pytest.mark.parametrize(
    ("change", "plain", "skip"),
    [
        ({}, (1e-10, 1e-8), (1e7, 1e10)),
        ({"gain": 2**0.5}, (0.1, 10), (1e10, 1e13)),
        ({"act": "tanh", "gain": 0.8}, (1e-7, 1e-5), (10, 100)),
        ({"act": "tanh"}, (0.01, 1), (10, 100)),
        ({"scale": "root"}, (1e-10, 1e-8), (1, 8)),
        ({"gain": 2**0.5, "scale": "root"}, (0.1, 10), (1, 10)),
    ],
)
def test_a_learner_can_falsify_that_plain_nets_fade_and_skips_keep_the_gradient(change, plain, skip):
    (case,) = [c for c in figure.golden()["cases"] if c["settings"] == measure.DEFAULTS | change]
    for column, (low, high) in (("plain", plain), ("skip", skip)):
        assert low < case["norms"][column][0] / case["norms"][column][-1] < high


def test_without_the_plus_one_branches_that_are_switched_off_hand_nothing_back():
    (case,) = [
        c for c in figure.golden()["cases"] if c["settings"] == measure.DEFAULTS | {"gain": 2**0.5, "scale": "zero"}
    ]
    assert set(case["norms"]["dropped"][:-1]) == {0.0}
    assert len(set(case["norms"]["skip"])) == 1


def test_noise_has_mean_zero_and_variance_one_and_differs_by_seed_and_stream():
    draws = [measure.noise(seed, stream, 100, 100) for seed in (0, 1) for stream in (1, 2)]
    for i, a in enumerate(draws):
        assert abs(a.mean()) < 0.05
        assert abs(a.var() - 1) < 0.05
        for b in draws[:i]:
            assert abs(np.mean(a * b)) < 0.05


# --- the text and the page


def test_the_static_figure_has_every_number_in_its_place():
    page = re.sub(r"<script.*?</script>", "", figure.fragment(), flags=re.DOTALL)
    texts = text.shown(figure.golden()["block"]["kept"], figure.golden()["block"]["kept"])
    places = re.findall(r'data-v="(\w+)">([^<]*)<', page)
    assert len(places) > 40
    for name, shown in places:
        assert shown == texts[name]
    rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>([^<]+)</td><td>([^<]+)</td></tr>', page)
    norms = next(c["norms"] for c in figure.golden()["cases"] if c["settings"] == measure.DEFAULTS)
    assert [int(layer) for layer, _, _ in rows] == list(range(measure.DEFAULTS["depth"], -1, -1))
    for layer, plain, skip in rows:
        for shown, column in ((plain, norms["plain"]), (skip, norms["skip"])):
            assert html.unescape(shown) == text.short(column[int(layer)] / column[-1])


def test_the_figure_asks_no_server_for_anything_and_can_stand_on_a_page_twice():
    for whole in (figure.fragment(), figure.page()):
        assert not re.findall(r"https?:|//[a-z]|\bsrc=|<link|url\(|@import", re.sub(r"(?m)^\s*//.*$", "", whole))
        assert not re.findall(r'\bid="', whole)
    assert not re.findall(r"(?m)^import ", script())
    assert "$" not in re.sub(r"\$\{", "", re.sub(r"<script.*?</script>", "", figure.page(), flags=re.DOTALL))


def test_every_rule_of_the_style_stays_inside_the_figure():
    style = re.sub(
        r"/\*.*?\*/", "", (Path(figure.__file__).parent / "skip.css").read_text(encoding="utf-8"), flags=re.S
    )
    style = re.sub(r"@keyframes [\w-]+ \{.*?\}\s*\}", "", style, flags=re.S)
    selectors = re.findall(r"([^{};]+)\{", style)
    assert len(selectors) > 60
    for selector in selectors:
        if not selector.strip().startswith("@"):
            assert all(".mr-skip" in part for part in selector.split(",")), selector


def test_the_page_names_the_version_and_carries_the_golden_numbers():
    page = figure.page()
    assert f"minires {minires.__version__}." in page
    (embedded,) = re.findall(r'<script type="application/json" class="mr-golden">(.*?)</script>', page)
    assert json.loads(embedded) == figure.golden()


# --- the script, in node


def test_the_script_agrees_with_golden_json_and_with_python_s_texts(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (apt-get install nodejs)")
    rng = np.random.default_rng(5)
    numbers = [
        0.0,
        1.0,
        0.1,
        10.0,
        9.96,
        99.6,
        999.0,
        0.00999,
        0.095,
        0.0999,
        0.1001,
        10.4,
        1e-30,
        1e30,
        *10 ** rng.uniform(-29, 29, 300),
    ]
    signed = [*rng.normal(0, 2, 100), 0.0, -0.0, -0.001, -3.0]
    block = figure.golden()["block"]
    charts = []
    for depth, decades in ((4, 2), (56, 9), (110, 29), (20, 0.5)):
        shares = [float(v) for v in 10 ** rng.uniform(-decades, decades, depth + 1)]
        span = draw.decades(shares)
        charts += [{"shares": shares, "span": span, "width": w, "svg": draw.chart(shares, span, w)} for w in (150, 300)]
    expected = {
        "decimal": [(v, text.decimal(v)) for v in signed],
        "short": [(v, text.short(v)) for v in numbers],
        "fate": [(v, text.fate(v)) for v in [*numbers, 1e-31, 1e-200, 3e40]],
        "shown": {kind: text.shown(block["kept"], block[kind]) for kind in ("kept", "dropped")},
        "charts": charts,
    }
    (tmp_path / "figure.mjs").write_text(script(), encoding="utf-8")
    (tmp_path / "golden.json").write_text(json.dumps(figure.golden()), encoding="utf-8")
    (tmp_path / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", str(HERE / "skip.test.mjs")],
        env={"MINIRES_FIGURE": str(tmp_path), "PATH": str(Path(node).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    failed = "\n".join(re.findall(r"(?ms)^not ok .*?^  \.\.\.$", done.stdout))
    assert done.returncode == 0, failed or done.stderr
    assert f"# pass {len(figure.golden()['cases']) + 6}" in done.stdout
