"""The way to cuDNN, with a stand-in for its Python frontend that takes the same names and works at raw addresses."""

import importlib
import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.kernels.cuda import allow_tf32, cudnn
from minires.kernels.cuda.conv import CudaConv2d, CudaConvTranspose2d
from minires.ops.conv import Conv2d
from tests.kernels.cuda import emulator
from tests.kernels.cuda.comparing import assert_equals_formula, is_channels_last, needs_compiler, run
from tests.kernels.cuda.test_conv import GEOMETRIES
from tests.kernels.equality import ORDERS, in_order

REAL_FRONTEND = cudnn.frontend
pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]


class NotSupportedError(RuntimeError):
    pass


class Tensor:
    """cudnn.tensor: setters return the tensor, but for set_data_type, whose result is not relied on."""

    def __init__(self, dim=None, stride=None, data_type=None, name="", uid=-1):
        self.dim, self.stride, self.data_type, self.uid, self.output = dim, stride, data_type, uid, False

    def set_output(self, arg0):
        self.output = arg0
        return self

    def set_uid(self, arg0):
        self.uid = arg0
        return self

    def set_dim(self, arg0):
        self.dim = arg0
        return self

    def set_stride(self, arg0):
        self.stride = arg0
        return self

    def set_data_type(self, data_type):
        self.data_type = data_type

    def at(self, address):
        size = sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True)) + 1
        memory = np.frombuffer((emulator.ctypes.c_char * (4 * size)).from_address(address), np.float32)
        return np.lib.stride_tricks.as_strided(memory, self.dim, [4 * s for s in self.stride])


class Graph:
    """cudnn.pygraph, for one convolution; its steps must come in this order."""

    STEPS = ("validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans")
    refuse = None  # a step at which every graph fails
    built = ()

    def __init__(self, *, name, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert io_data_type == intermediate_data_type == compute_data_type == "float"
        assert handle == 99
        self.name, self.steps, self.deselected = name, [], []
        self.built.append(self)

    def tensor(self, *, dim, stride, data_type, name, uid):
        return Tensor(dim, stride, data_type, name, uid)

    def conv_fprop(self, *, image, weight, pre_padding, post_padding, stride, dilation):
        return self.node(image, weight, "correlate", pre_padding, post_padding, stride, dilation)

    def conv_dgrad(self, *, loss, filter, pre_padding, post_padding, stride, dilation):
        return self.node(loss, filter, "spread", pre_padding, post_padding, stride, dilation)

    def conv_wgrad(self, *, image, loss, pre_padding, post_padding, stride, dilation):
        return self.node(image, loss, "weigh", pre_padding, post_padding, stride, dilation)

    def node(self, a, b, what, before, after, stride, dilation):
        self.tensors, self.what = [a, b, Tensor()], what
        padding = tuple(zip(before, after, strict=True))
        self.options = {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation)}
        return self.tensors[2]

    def step(self, name):
        if name == self.refuse:
            raise NotSupportedError(name)
        self.steps.append(name)

    def deselect_numeric_notes(self, arg0):
        assert self.steps[-1] == "create_execution_plans"
        self.deselected += arg0

    def create_execution_plans(self, arg0):
        assert arg0 == ["A", "FALLBACK"]
        self.step("create_execution_plans")

    def get_workspace_size(self):
        return 40

    def execute(self, tensor_to_device_buffer, workspace, handle=None):
        assert tuple(self.steps) == self.STEPS
        assert handle == 99
        assert FRONTEND.stream == emulator.STREAM
        assert workspace
        assert all(t.data_type == "float" for t in self.tensors)
        assert self.tensors[2].output
        a, b, y = (t.at(tensor_to_device_buffer[t.uid]) for t in self.tensors)
        op = Conv2d()
        x, w = (a, b) if self.what == "correlate" else (y, b) if self.what == "spread" else (a, y)
        op.xp, op.groups = np, x.shape[1] // w.shape[1]
        vars(op).update(self.options)
        told = {"correlate": y.shape[2:], "spread": y.shape, "weigh": y.shape}[self.what]

        def compute():
            y[...] = getattr(op, self.what)(a.copy(), b.copy(), told)

        emulator.on_addresses(compute, [], [])
        emulator.launches.append(self.name)


for step in ("validate", "build_operation_graph", "check_support", "build_plans"):
    setattr(Graph, step, lambda self, step=step: self.step(step))


def set_stream(*, handle, stream):
    FRONTEND.stream = stream


class Package(SimpleNamespace):
    """A namespace that may be the key of a cache, as a module may."""

    __hash__ = object.__hash__


FRONTEND = Package(
    pygraph=Graph,
    tensor=Tensor,
    set_stream=set_stream,
    data_type=SimpleNamespace(FLOAT="float"),
    heur_mode=SimpleNamespace(A="A", FALLBACK="FALLBACK"),
    numerical_note=SimpleNamespace(TENSOR_CORE="TENSOR_CORE"),
    cudnnGraphNotSupportedError=NotSupportedError,
    stream=None,
)


@pytest.fixture
def graphs(monkeypatch):
    """Every graph that is built from here on."""
    found = cudnn.Frontend(FRONTEND, 99)
    cudnn.plan.cache_clear()
    monkeypatch.setattr(cudnn, "frontend", lambda device: found)
    monkeypatch.setattr(Graph, "built", [])
    monkeypatch.setattr(Graph, "refuse", None)
    yield Graph.built
    cudnn.plan.cache_clear()


@pytest.mark.usefixtures("graphs")
@settings(max_examples=40)
@given(GEOMETRIES, st.sampled_from(ORDERS), st.integers(0, 99))
def test_the_three_maps_equal_the_formula(geometry, order, seed):
    (xs, ws, options), rng = geometry, np.random.default_rng(seed)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in (xs, ws, ws[:1]))
    x = in_order(x, order)
    f = lambda x, w, b: F.conv2d(x, w, b, **options)
    forward, backward = assert_equals_formula(CudaConv2d, f, x, w, b)
    assert forward == ("conv_fprop",)
    assert backward[:2] == ("conv_dgrad", "conv_wgrad")


@pytest.mark.usefixtures("graphs")
def test_the_transpose_and_a_kernel_with_more_padding_on_one_side():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 6, 7)).astype(np.float32), rng.normal(size=(3, 4, 4, 2)).astype(np.float32)
    f = lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)
    forward, backward = assert_equals_formula(CudaConvTranspose2d, f, x, w)
    assert (forward, backward) == (("conv_dgrad",), ("conv_fprop", "conv_wgrad"))
    f = lambda x, w: F.conv2d(x, w, padding="same")
    assert_equals_formula(CudaConv2d, f, x, w.transpose(1, 0, 2, 3).copy())


def test_a_graph_is_built_once_for_each_call_and_setting(graphs):
    x, w = np.ones((2, 3, 6, 7), np.float32), np.ones((4, 3, 3, 3), np.float32)
    f = lambda x, w: F.conv2d(x, w)
    _, (y, *_), *_ = run(f, x, w)
    assert is_channels_last(y)
    run(f, x, w)
    assert [g.name for g in graphs] == ["conv_fprop", "conv_dgrad", "conv_wgrad"]
    with allow_tf32():
        run(f, x, w)
    assert [g.deselected for g in graphs] == [["TENSOR_CORE"]] * 3 + [[]] * 3
    run(f, x[:1], w)
    assert len(graphs) == 9


@pytest.mark.parametrize("at", Graph.STEPS)
def test_what_cudnn_refuses_is_done_by_patches(graphs, monkeypatch, at):
    monkeypatch.setattr(Graph, "refuse", at)
    x, w = np.ones((2, 3, 6, 7), np.float32), np.ones((4, 3, 3, 3), np.float32)
    for _ in range(2):
        forward, backward = assert_equals_formula(CudaConv2d, lambda x, w: F.conv2d(x, w), x, w)
        assert forward == ("patches", "gemm")
        assert backward == ("gemm", "scatter", "patches", "gemm")
    assert len(graphs) == 3


def test_float64_is_done_by_patches(graphs):
    assert run(lambda x, w: F.conv2d(x, w), np.ones((2, 3, 6, 7)), np.ones((4, 3, 3, 3)))[2] == ("patches", "gemm")
    assert not graphs


def test_without_the_package_or_a_device_there_is_no_cudnn(monkeypatch):
    real = inspect.unwrap(REAL_FRONTEND)

    def missing(name):
        raise ImportError(name)

    def broken():
        raise RuntimeError("Unable to find symbol cudnnCreate")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert real(0) is None
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(create_handle=broken))
    assert real(0) is None
    package = SimpleNamespace(create_handle=lambda: 5)
    monkeypatch.setattr(importlib, "import_module", lambda name: package)
    assert real(0) == (package, 5)


def words(f):
    """The names of a compiled function's parameters, as its docstring tells them: of the last way to call it."""
    found = re.findall(rf"{f.__name__}\(self[^,)]*(.*)\) ->", f.__doc__)
    return re.findall(r", (\w+):", found[-1])


def test_the_stand_in_takes_what_the_real_frontend_takes():
    real = pytest.importorskip("cudnn")
    for name in ("conv_fprop", "conv_dgrad", "conv_wgrad", "deselect_numeric_notes", *Graph.STEPS):
        taken = [p for p in inspect.signature(getattr(Graph, name)).parameters if p not in ("self", "step")]
        assert set(taken) <= set(words(getattr(real.pygraph, name))), name
    assert set(inspect.signature(Graph.__init__).parameters) - {"self"} <= set(words(real.pygraph.__init__))
    for name in ("tensor", "execute"):
        known = inspect.signature(getattr(real.pygraph, name)).parameters
        assert set(inspect.signature(getattr(Graph, name)).parameters) <= set(known), name
    for name in ("set_output", "set_uid", "set_dim", "set_stride"):
        assert "-> cudnn._compiled_module.tensor" in getattr(real.tensor, name).__doc__
    for name in ("data_type", "heur_mode", "numerical_note"):
        assert set(vars(getattr(FRONTEND, name))) <= set(dir(getattr(real, name))), name
    assert issubclass(real.cudnnGraphNotSupportedError, Exception)
    assert "handle: int, stream: int" in real.set_stream.__doc__
