"""The README's code runs, and prints what the README says it prints."""

import ast
import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from minires.cli import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_one_screen_example_prints_what_the_page_shows():
    code = next(block for block in blocks("python") if "mr.ledger()" in block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == blocks("text")[0]


def test_the_explained_expression_is_what_the_command_prints(capsys):
    shown = next(block for block in blocks("text") if "Backward, from gy" in block)
    assert main(["explain", "x + tanh(w * x)", "--at", "x=0.5", "w=2"]) == 0
    assert capsys.readouterr().out == shown


def test_the_example_of_familiar_names_runs():
    code = next(block for block in blocks("python") if "optim.SGD" in block)
    scope = {}
    exec(code, scope)
    assert sum(p.size for p in scope["model"].parameters()) == 269_722


def test_the_gradcheck_example_passes_on_every_parameter():
    code = next(block for block in blocks("python") if "gradcheck(model" in block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue().startswith("gradcheck passed: ")
    assert "layer3.0.conv2.weight" in printed.getvalue()


def test_the_example_of_profile_and_checkpoint_prints_a_table():
    code = next(block for block in blocks("python") if "mr.profile" in block)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert "Conv2d" in printed.getvalue()
    assert "GFLOP/s" in printed.getvalue()


def test_the_mutation_score_on_the_page_is_the_kept_one():
    kept = (README.parent / "tutorials" / "site" / "mutation-score.md").read_text(encoding="utf-8")
    (bugs,) = re.findall(r"Bug zoo: (\d+) of", kept)
    noticed, equal = re.findall(r"Noticed: (\d+)\. Proved equal to the original: (\d+)", kept)[0]
    shown = " ".join(README.read_text(encoding="utf-8").split())
    assert f"{bugs} mistakes and broken engines" in shown
    assert f"{int(noticed):,} of {int(noticed):,} are noticed, beside {equal} that are proved" in shown


def test_the_table_of_checks_counts_the_laws_and_bugs_that_there_are():
    from minires.check import all_laws, bugs, subjects
    from minires.check.invariants import INVARIANTS

    table = next(block for block in blocks("text") if "digits to which backward agreed" in block)
    by_name = {subject.name: subject.op for subject in subjects()}
    rows = [line.split() for line in table.splitlines() if line.split()[:1] and line.split()[0] in by_name]
    assert len(rows) == 4
    for name, *_, held, caught, _ in rows:
        op = by_name[name]
        assert int(held) == len(INVARIANTS) + len(all_laws(op))
        assert caught == f"{len(bugs(op))}/{len(bugs(op))}"


def test_the_op_on_the_page_is_the_op_in_the_library():
    shown = next(block for block in blocks("python") if "class ResidualAdd" in block)
    source = (README.parent / "minires" / "ops" / "residual.py").read_text(encoding="utf-8")
    for line in ("gx = gy ", "gf = gy ", "return x + f", "return gy, gy"):
        assert line in shown
        assert line in source


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")))
def test_every_link_within_the_project_leads_somewhere(target):
    assert (README.parent / target).exists()


def test_every_skip_of_the_readme_is_the_formula_behind_it():
    code = next(block for block in blocks("python") if "nn.DenseConcat" in block)
    tree = ast.parse(code)
    names = {}
    expressions = [node for node in tree.body if isinstance(node, ast.Expr)]
    rest = ast.Module([node for node in tree.body if node not in expressions], [])
    exec(compile(rest, "README.md", "exec"), names)
    rng = np.random.default_rng(0)
    image, row = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 16, 5, 5), (3, 64)))
    made = [eval(ast.unparse(node), names) for node in expressions]
    resnet, gpt, post, rezero, highway, depth, dense = (m.eval() for m in made)
    conv, mlp = names["conv"].eval(), names["mlp"].eval()
    t = highway.gate(row).numpy()
    for layer, x, expected in (
        (resnet, image, np.maximum(image + conv(image).numpy(), 0)),
        (gpt, row, row + mlp(gpt.norm_layer(row)).numpy()),
        (post, row, post.norm_layer(row + mlp(row)).numpy()),
        (rezero, row, row),
        (highway, row, t * mlp(row).numpy() + (1 - t) * row),
        (depth, image, image + 0.8 * conv(image).numpy()),
        (dense, image, np.concatenate([image, dense.branch(image).numpy()], 1)),
    ):
        assert np.allclose(layer(x).numpy(), expected, atol=1e-5)
