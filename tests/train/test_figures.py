"""Both figures are drawn from what a run notes, however long it was; nothing of pyplot's global state is used."""

import subprocess
import sys

import pytest

from minires.train import figures, tasks

pytest.importorskip("matplotlib")


def history(epochs):
    rows = range(1, epochs + 1)
    return [
        {"epoch": i, "train_loss": 1 / i, "val_loss": 2 / i, "train_acc": 1 - 1 / (i + 1), "val_acc": 0.5} for i in rows
    ]


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_of_short_and_long_runs(tmp_path, epochs):
    figures.curves(tmp_path / "curves.png", history(epochs), epochs, "resnet8 on digits", tasks.find("digits"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("layers", [1, 8, 60])
def test_gradient_flow_of_shallow_and_deep_networks(tmp_path, layers):
    norms = {f"layer{i}.weight": 2.0**-i for i in range(layers)}
    figures.gradient_flow(tmp_path / "flow.png", {"epoch 1": norms, "epoch 9": norms}, "resnet8 on digits")
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_a_gradient_that_died_can_still_be_drawn(tmp_path):
    figures.gradient_flow(tmp_path / "flow.png", {"epoch 1": {"a.weight": 0.0, "b.weight": 0.0}}, "plain20 on digits")
    assert (tmp_path / "flow.png").exists()


def test_drawing_loads_no_pyplot(tmp_path):
    code = (
        "import sys; from pathlib import Path; from minires.train import figures;"
        f"figures.gradient_flow(Path({str(tmp_path / 'f.png')!r}), {{'epoch 1': {{'a.weight': 1.0}}}}, 'x');"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
