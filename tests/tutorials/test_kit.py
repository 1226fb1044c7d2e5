"""What the tutorials are shown with: no figure without words, in every place where a tutorial runs."""

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from minires.errors import RequestError

TUTORIALS = Path(__file__).parents[2] / "tutorials"


@pytest.fixture
def kit(tmp_path):
    """A fresh `_kit` that saves its figures elsewhere."""
    spec = importlib.util.spec_from_file_location("_kit_under_test", TUTORIALS / "_kit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FIGURES = tmp_path
    return module


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_words_is_refused(kit, alt):
    with pytest.raises(RequestError, match="alt is empty"):
        kit.show("a drawing", alt=alt)


def test_a_script_saves_each_figure_and_prints_its_words(kit, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for _ in range(2):
        figure, (left, right) = kit.panels(2)
        left.plot([1, 2])
        right.plot([2, 1])
        kit.show(figure, alt="Two lines that cross.", caption="A cross.")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["test_kit-1.png", "test_kit-2.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    told = capsys.readouterr().out
    assert "Figure 2. A cross.\n" in told
    assert f"saved as {files[1]}\nTwo lines that cross.\n" in told


def in_a_notebook(kit, monkeypatch, *args, **kwargs):
    """What `show` would display there."""
    shown = []
    display = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("IPython.display", None))
    display.display = lambda bundle, raw: shown.append(bundle)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(kit, "_in_notebook", lambda: True)
    kit.show(*args, **kwargs)
    (bundle,) = shown
    return bundle


def test_a_notebook_gets_a_figure_element_with_its_words(kit, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    figure, _ = kit.panels()
    bundle = in_a_notebook(kit, monkeypatch, figure, alt='"a" < b & more', caption="x < y")
    assert bundle["text/plain"] == '"a" < b & more'
    assert bundle["text/html"].startswith('<figure><img src="data:image/png;base64,')
    assert ' alt="&quot;a&quot; &lt; b &amp; more"' in bundle["text/html"]
    assert bundle["text/html"].endswith("<figcaption>x &lt; y</figcaption></figure>")
    assert not list(tmp_path.iterdir())


def test_a_drawing_of_characters_is_shown_as_one_picture(kit, monkeypatch, capsys):
    kit.show("/\\_ <", alt="A hill.")
    assert "/\\_ <\nA hill.\n" in capsys.readouterr().out
    bundle = in_a_notebook(kit, monkeypatch, "/\\_ <", alt="A hill.")
    assert bundle["text/html"] == '<figure><pre role="img" aria-label="A hill.">/\\_ &lt;</pre></figure>'


def test_a_chart_of_characters_puts_each_value_at_its_height(kit):
    chart = kit.text_chart({"rising": [0.0, 1.0, 2.0], "over the top": [5.0, 5.0, 5.0]}, top=2.0, width=3, height=3)
    assert chart.splitlines() == [
        "  2.0 |ooo",
        "      | .",
        "  0.0 |.",
        "      +---",
        "       . rising   o over the top",
    ]


def without_matplotlib(code):
    hidden = f"import sys; sys.path.insert(0, {str(TUTORIALS)!r}); sys.modules['matplotlib'] = None\n"
    return subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False)


def test_without_matplotlib_one_line_says_what_to_install():
    done = without_matplotlib("from _kit import panels; panels(2)")
    assert done.returncode == 2
    assert done.stderr == "minires: this figure needs matplotlib; type: pip install 'minires[plot]'\n"


@pytest.mark.slow
def test_without_matplotlib_tutorial_0_draws_its_picture_in_characters():
    file = str(TUTORIALS / "t00_sixty_seconds.py")
    done = without_matplotlib(f"import runpy; runpy.run_path({file!r}, run_name='__main__')")
    assert done.returncode == 0, done.stderr
    assert ". 4 layers   o 18 layers   # 54 layers" in done.stdout
