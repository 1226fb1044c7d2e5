"""A test's questions mean the same in both processes, and what crosses between them is checked."""

import contextlib
import io
from fractions import Fraction

import numpy as np
import pytest

from minires.classroom.answer import Failed, Local
from minires.classroom.child import wire
from minires.classroom.child.steps import Opaque, Ref, call, get, operate, pack, put
from minires.classroom.sandbox import Remote


def both(source):
    remote = Remote(source, "answer.py")
    return Local.of(source), remote


def test_remote_and_local_give_the_same_for_every_kind_of_step_and_value():
    source = """
import numpy as np
from fractions import Fraction

class Value:
    def __init__(self, data): self.data, self.grad = data, 0
    def __add__(self, other): return Value(self.data + other.data)

def everything(x, scale=1):
    view = x[1:]
    view *= scale
    return [view, x.astype(np.float32), (True, None, 2**200, 1.5, 1j, "text", Fraction(-1, 3)), np.bool_(True)]
"""
    steps = [
        call("a", "Value", 2),
        call("b", "Value", 5),
        operate("c", "+", Ref("a"), Ref("b")),
        put("c.grad", 7),
        get("data", "c.data"),
        get("grad", "c.grad"),
        call("out", "everything", Ref("x"), scale=3.0),
        get("view", "out", 0),
        pack("packed", "grad"),
    ]
    x = np.random.default_rng(0).normal(size=4)
    keep = ("a", "data", "grad", "out", "view", "packed")
    local, remote = both(source)
    with remote:
        assert remote.begin(5) is None
        replies = [answer.script(steps, {"x": x}, keep) for answer in (local, remote)]
    for reply in replies:
        assert (reply["a"], reply["data"], reply["grad"], reply["packed"]) == (Opaque("Value"), 7, 7, (7,))
        assert np.array_equal(reply["view"], 3 * x[1:])
        assert np.array_equal(reply.inputs_after["x"], np.r_[x[0], 3 * x[1:]])
        assert reply.shares == {("x", "out[0]"), ("x", "view"), ("out[0]", "view")}
        assert reply["out"][1].dtype == np.float32
    assert repr(replies[0]["out"]) == repr(replies[1]["out"])
    assert not np.array_equal(x, replies[0].inputs_after["x"])  # the test's own array stays as it was


TROUBLED = """
def f(x):
    return x + 1

class Op: pass

def blank(): raise NotImplementedError("A0: blank is yours to write")

def deep(n): return deep(n + 1)
"""


@pytest.fixture(scope="module")
def troubled():
    """One answer in both processes."""
    local, remote = both(TROUBLED)
    with remote:
        assert remote.begin(10) is None
        yield local, remote


@pytest.mark.parametrize(
    ("call_of", "cause", "told"),
    [
        (lambda a: a.call("g", 1), "MISSING_NAME", "there is no g"),
        (lambda a: a.call("Op.other"), "MISSING_NAME", "Op has no other"),
        (lambda a: a.call("f", 1, 2), "CHANGED_SIGNATURE", "answer.py:2: f() takes 1 positional argument but 2"),
        (lambda a: a.call("f", 1, axis=0), "CHANGED_SIGNATURE", "answer.py:2: f() got an unexpected keyword"),
        (lambda a: a.call("f", None), "CRASHED", "answer.py:3: TypeError"),
        (lambda a: a.call("blank"), "NOT_WRITTEN", "A0: blank is yours to write"),
        (lambda a: a.call("deep", 0), "CRASHED", "RecursionError"),
    ],
)
def test_what_is_missing_changed_or_not_written_is_said_in_a_line(troubled, call_of, cause, told):
    for answer in troubled:
        with pytest.raises(Failed) as failure:
            call_of(answer)
        assert (failure.value.cause, told in failure.value.message) == (cause, True)
        assert "\n" not in failure.value.message


def test_an_answer_may_define_classes_of_every_kind():
    source = """
from __future__ import annotations

import dataclasses, enum, pickle, typing
from collections import namedtuple

@dataclasses.dataclass
class Cache:
    x: float
    kind: typing.ClassVar[str] = "cache"

Pair = namedtuple("Pair", "a b")

class Color(enum.Enum):
    RED = 1

class Row(typing.NamedTuple):
    a: int = 1

def both(x):
    return Cache(x).x + pickle.loads(pickle.dumps(Pair(x, Row().a))).b + Color.RED.value
"""
    local, remote = both(source)
    with remote:
        assert remote.begin(5) is None
        assert [answer.call("both", 2.0)["y"] for answer in (local, remote)] == [4.0, 4.0]


def test_with_tolerate_what_was_kept_before_the_failure_is_there():
    local = Local.of("def half(x): return x / 2\ndef bad(x): raise ValueError('no')\n")
    reply = local.script([call("a", "half", 3), call("b", "bad", 3)], keep=("a", "b"), tolerate=True)
    assert reply["a"] == 1.5
    assert "b" not in reply.values
    assert (reply.error.cause, reply.error.exception) == ("CRASHED", "ValueError")


# --- the wire


def read_from(message):
    return wire.unpack(io.BytesIO(message).read)


def test_what_is_sent_arrives():
    array = np.asfortranarray(np.random.default_rng(1).normal(size=(2, 3)))
    sent = {
        "values": [1, -(2**200), 0.1, float("inf"), 2j, Fraction(1, 3), True, None, "é", (), [(1,)], {"a": Ref("x")}],
        "arrays": (array, array[:, :0], np.float32(2), np.array([True])),
        "steps": [call("y", "f", Ref("x"), axis=(0, 1)), get("z", "y", 0)],
        "opaque": Opaque("Value"),
    }
    found = read_from(wire.pack(sent))
    assert found["values"] == sent["values"]
    assert (found["steps"], found["opaque"]) == (sent["steps"], sent["opaque"])
    for x, y in zip(found["arrays"], sent["arrays"], strict=True):
        assert (x.dtype, x.shape, x.tolist()) == (y.dtype, y.shape, y.tolist())


def test_a_damaged_message_is_refused_and_never_believed():
    good = wire.pack({"nonce": "1", "x": np.arange(3.0), "y": (Fraction(1, 2), Ref("a"), 2**100)})
    rng = np.random.default_rng(2)
    for _ in range(400):
        bad = bytearray(good)
        for place in rng.integers(len(bad) - 24, size=rng.integers(1, 4)):
            bad[place] = rng.integers(256)
        with contextlib.suppress(wire.WireError, EOFError):
            read_from(bytes(bad))
    for cut_at in range(len(good)):
        with pytest.raises(EOFError):
            read_from(good[:cut_at])


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 5000,
        b"7",
        b'{"message": {}, "arrays": []}',
        b'{"message": {"array": 0}, "arrays": []}',
        b'{"message": {"dict": []}, "arrays": [["|O", [1]]]}',
        b'{"message": {"dict": []}, "arrays": [["<f8", [-1]]]}',
        b'{"message": {"dict": []}, "arrays": [["<f8", [99999999999]]]}',
        b'{"message": {"fraction": ["1", "0"]}, "arrays": []}',
        b'{"message": {"eval": "1"}, "arrays": []}',
    ],
)
def test_what_is_no_message_is_refused(head):
    with pytest.raises(wire.WireError):
        read_from(len(head).to_bytes(8, "big") + head)
    with pytest.raises(wire.WireError, match="longer than any"):
        read_from(b"\xff" * 8 + head)
