"""Every model of the registry, at its smallest: counts, a falling loss, gradients through the whole, both devices.

The rows are in `tests/models/small/`, one file a family.
"""

import numpy as np
import pytest

import minires as mr
from minires import backend, models, nn, optim
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from tests.devices import agree, without_waiting
from tests.devices import library as library  # the fixture
from tests.models.small import rows

SMALL, COUNTS = rows("SMALL"), rows("COUNTS")
GRADIENTS_OF = {row.name: row for row in SMALL}.values()  # one row a model is enough where time is long


def made(row, dtype=np.float64, library=backend.NUMPY):
    mr.manual_seed(3)
    return models.create(row.name, **row.options).to(library.device, dtype)


def randomize(model, rng):
    """Every number that has a usual start away from it: gains, biases, gates, scales, running statistics."""
    with no_grad():
        for name, p in model.named_parameters():
            spread = 0.5 if p.ndim <= 1 else 0.1
            p.copy_(p.numpy() + spread * rng.standard_normal(p.shape))
            assert np.all(p.numpy() != 0), name
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.3 * rng.standard_normal(b.shape))
            elif name.endswith("running_var"):
                b.copy_(rng.uniform(0.5, 2.0, b.shape))
    return model


def batch_of(row, dtype=np.float64, seed=5):
    return tuple(a.astype(dtype) if a.dtype.kind == "f" else a for a in row.batch(np.random.default_rng(seed)))


def test_every_family_of_the_registry_has_a_row():
    families = {models.info(name).family for name in models.names()}
    assert families == {models.info(row.name).family for row in SMALL}


@pytest.mark.parametrize(("name", "options", "parameters"), COUNTS, ids=lambda v: str(v))
def test_parameters_are_as_many_as_published(name, options, parameters):
    assert models.describe(name, **options).parameters == parameters


@pytest.mark.parametrize("row", SMALL, ids=str)
def test_a_few_steps_make_the_loss_fall(row, library):
    """On one batch, in float32, drop-outs and all; the host waits for nothing while it trains."""
    model, batch = made(row, np.float32, library), [library.asarray(a) for a in batch_of(row, np.float32)]
    optimizer = optim.Adam(model.named_parameters(), lr=row.lr)

    def loss_now():
        mr.manual_seed(7)  # the same draws before and after
        return row.loss(model, *batch)

    with backend.device(library.device):
        first = loss_now().item()
        with without_waiting(library):
            for _ in range(row.steps):
                optimizer.zero_grad()
                row.loss(model, *batch).backward()
                optimizer.step()
        last = loss_now().item()
    assert last < 0.97 * first, f"{row.name}: {first:.4f}, then {last:.4f}"


def function_of(row, model):
    """(f, its arguments by name): the model's output as a function of float inputs and parameters, without a state."""
    inputs = batch_of(row)[: row.inputs]
    buffers = {name: b.data.copy() for name, b in model.named_buffers()}
    values = {f"input {i}": a for i, a in enumerate(inputs) if a.dtype.kind == "f"}
    floats = len(values)
    values.update({name: p.data.copy() for name, p in model.named_parameters()})
    names = list(values)

    def f(*given):
        mr.manual_seed(11)  # what is drawn at random is drawn the same each time
        given_inputs = dict(zip(names[:floats], given, strict=False))
        full = [given_inputs.get(f"input {i}", a) for i, a in enumerate(inputs)]
        held = {name: nn.Buffer(b.copy()) for name, b in buffers.items()}
        y = nn.functional_call(model, {**dict(zip(names[floats:], given[floats:], strict=True)), **held}, *full)
        parts = [part for part in (y if isinstance(y, tuple) else (y,)) if part is not None]
        return F.cat([F.reshape(part, (-1,)) for part in parts])

    return f, values


def exact_slope(f, values, directions, gy):
    """gy · (J t) by the complex step. Raises RequestError where an op cannot be complex: erf without SciPy."""
    return float(np.sum(gy * mr.jvp(f, tuple(values), tuple(directions))[1].numpy()))


def estimated_slope(f, values, directions, gy, h=2e-4):
    """The same for unit vectors by central differences of fourth order."""

    def at(h):
        return float(np.sum(gy * f(*(Tensor(v + h * t) for v, t in zip(values, directions, strict=True))).numpy()))

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


@pytest.mark.parametrize("row", GRADIENTS_OF, ids=str)
def test_the_gradient_through_the_whole_model_is_right(row):
    """In three random directions through inputs and all parameters at once, each of equal weight in the sum.

    Where that fails, and where an op cannot be complex, in a direction through each of them alone.
    """
    rng = np.random.default_rng(17)
    f, values = function_of(row, randomize(made(row), rng))
    leaves = [Tensor(v, requires_grad=True) for v in values.values()]
    y = f(*leaves)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    zeros = (np.zeros(leaf.shape) if leaf.grad is None else leaf.grad for leaf in leaves)
    gradients = dict(zip(values, zeros, strict=True))
    norms = {name: np.linalg.norm(g) for name, g in gradients.items()}
    flat = {name for name, norm in norms.items() if norm < 1e-13}
    unproved = {name for name in flat if not name.endswith(row.may_vanish)}
    assert not unproved, "a gradient of zero proves nothing; start elsewhere"

    def one_by_one(slope, accuracy):
        for name, v in values.items():
            t = rng.standard_normal(v.shape)
            t /= np.linalg.norm(t)
            along = [t if other == name else np.zeros(values[other].shape) for other in values]
            allowed = accuracy * max(norms[name], 1e-3 * max(norms.values()))
            assert abs(slope(f, values.values(), along, gy) - np.sum(gradients[name] * t)) < allowed, name

    for _ in range(3):
        weights = [1.0 if name in flat else 1 / norm for name, norm in norms.items()]
        directions = [w * rng.standard_normal(v.shape) for w, v in zip(weights, values.values(), strict=True)]
        terms = [np.sum(g * t) for g, t in zip(gradients.values(), directions, strict=True)]
        try:
            slope = exact_slope(f, values.values(), directions, gy)
        except RequestError:
            one_by_one(estimated_slope, 1e-8)
            continue
        if abs(slope - sum(terms)) > 1e-10 * np.sum(np.abs(terms)):
            one_by_one(exact_slope, 1e-10)  # which of them is it?
            pytest.fail("each gradient is right, and their sum is not")


@pytest.mark.parametrize("row", GRADIENTS_OF, ids=str)
def test_a_device_gives_the_numbers_of_numpy(row, library):
    def compute(library):
        rng = np.random.default_rng(23)
        model = randomize(made(row), rng).to(library.device)
        batch = [library.asarray(a) for a in batch_of(row)]
        inputs = [
            Tensor(a, requires_grad=True) if i < row.inputs and a.dtype.kind == "f" else a for i, a in enumerate(batch)
        ]
        with backend.device(library.device):
            mr.manual_seed(7)
            loss = row.loss(model, *inputs)
            loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return loss, gradients, [x.grad for x in inputs if isinstance(x, Tensor)]

    agree(library, compute, tolerance=1e-9)
