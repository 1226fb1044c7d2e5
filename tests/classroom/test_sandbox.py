"""Poisoned answers are contained: the report stands, the library is untouched, and no score rises."""

import dataclasses
import hashlib
import os
import textwrap
import time
from pathlib import Path

import pytest

import minires
from minires.classroom.grade import grade
from minires.classroom.sandbox import Remote
from tests.classroom import toy

LIBRARY = Path(minires.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="this system has no such limits")
HASTY = dataclasses.replace(
    toy.TOY, tests=(toy.TOY.tests[0], *(dataclasses.replace(test, seconds=0.3) for test in toy.TOY.tests[1:]))
)


def graded(tmp_path, source, assignment=toy.TOY, **limits):
    """The toy's result for a source text."""
    (tmp_path / "toy.py").write_text(source, encoding="utf-8")
    return grade(assignment, tmp_path, **limits)


def causes(result):
    return [test.cause for test in result.tests]


def in_forward(lines):
    """A wrong answer with these lines at the top of its forward."""
    return toy.SKIP_DROPPED.replace("        return x + f", textwrap.indent(lines, " " * 8) + "\n        return x + f")


@pytest.fixture(scope="module")
def library():
    """The reference's and the grader's files as they were; they are compared at the end."""
    files = [*LIBRARY.glob("ops/*.py"), *LIBRARY.glob("classroom/child/*.py"), LIBRARY / "classroom" / "grade.py"]

    def fingerprint():
        return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = fingerprint()
    yield
    assert fingerprint() == before


# --- what ends an answer, and costs no more than the tests it touches

FATAL = {
    "raises": ("raise RuntimeError('boom')", "CRASHED", "toy.py:2: RuntimeError: boom"),
    "leaves": ("import sys; sys.exit(0)", "CRASHED", "SystemExit"),
    "ends the process": ("import os; os._exit(0)", "CRASHED", "exit code 0"),
    "aborts": ("import os; os.abort()", "CRASHED", "SIGABRT" if os.name == "posix" else "exit code"),
    "imports nothing there is": ("import nothing_like_this", "IMPORT_ERROR", "toy.py:2: no nothing_like_this here"),
    "imports another framework": ("import torch", "IMPORT_ERROR", "an answer has Python's standard library and NumPy"),
    "kills the grader": ("import os; os.kill(os.getppid(), 9)", "FORBIDDEN_ACTION", "toy.py:2"),
    "starts a process": ("import subprocess; subprocess.run(['true'])", "FORBIDDEN_ACTION", "starts a process"),
    "uses the network": ("import socket; socket.create_connection(('127.0.0.1', 9))", "FORBIDDEN_ACTION", "network"),
    "deletes": ("import shutil; shutil.rmtree(LIBRARY)", "FORBIDDEN_ACTION", "changes files"),
    "writes beside itself": ("open('notes.txt', 'w')", "FORBIDDEN_ACTION", "opens the file notes.txt for writing"),
    "looks at its callers": ("import sys; sys._getframe(1).f_globals", "FORBIDDEN_ACTION", "callers' frames"),
    "inspects its callers": ("import inspect; inspect.stack()", "FORBIDDEN_ACTION", "callers' frames"),
    "follows a traceback": (
        "try: 1 / 0\nexcept ZeroDivisionError as error: error.__traceback__.tb_frame.f_back.f_globals",
        "FORBIDDEN_ACTION",
        "callers' frames",
    ),
    "asks the garbage collector": ("import gc; gc.get_objects()", "FORBIDDEN_ACTION", "behind the language"),
    "reads another process": ("open('/proc/self/maps')", "FORBIDDEN_ACTION", "/proc/self/maps"),
    "forks": ("import os\nwhile True: os.fork()", "FORBIDDEN_ACTION", "starts a process"),
    "lifts its limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))",
        "FORBIDDEN_ACTION",
        "behind the language",
    ),
}


@posix
@pytest.mark.parametrize("poison", FATAL)
def test_a_poison_at_import_costs_every_test_and_is_named_with_its_line(tmp_path, library, poison):
    line, cause, told = FATAL[poison]
    result = graded(tmp_path, f"LIBRARY = {str(LIBRARY)!r}\n{line}\n{toy.RIGHT}")
    assert (result.score, set(causes(result))) == (0, {cause})
    assert told in result.tests[0].message


@pytest.mark.parametrize(
    ("poison", "cause"),
    [
        ("while True: pass", "TIMEOUT"),
        ("import os; os._exit(0)", "CRASHED"),
        pytest.param("blocks = []\nwhile True: blocks.append(np.empty(2**24))", "OUT_OF_MEMORY", marks=posix),
    ],
    ids=["loop", "exit", "memory"],
)
def test_a_poison_in_one_function_costs_the_tests_that_call_it(tmp_path, poison, cause):
    source = toy.RIGHT.replace("        return gy, gy", textwrap.indent(poison, " " * 8) + "\n        return gy, gy")
    result = graded(tmp_path, source, HASTY if cause == "TIMEOUT" else toy.TOY)
    assert causes(result) == [None, cause, cause]
    assert result.score == 1
    assert cause == "CRASHED" or result.tests[1].message.startswith("toy.py:")  # where it hangs


def test_what_hangs_at_import_is_waited_for_once(tmp_path):
    began = time.perf_counter()
    result = graded(tmp_path, "import time\ntime.sleep(99)\n" + toy.RIGHT)
    assert set(causes(result)) == {"TIMEOUT"}
    assert time.perf_counter() - began < 2.9 * toy.TOY.tests[0].seconds


def test_all_that_an_answer_does_takes_no_longer_than_it_may(tmp_path):
    source = toy.RIGHT.replace("return x + f", "while True: pass")
    result = graded(tmp_path, source, seconds=0.5)
    assert set(causes(result)) == {"TIMEOUT"}
    assert "used up its 0.5 s" in result.tests[-1].message
    assert result.seconds < 10


# --- what must not raise a score

READS = {
    "import": "import minires.ops.residual",
    "import in a try": "try: import minires\nexcept BaseException: pass",
    "importlib": "import importlib; importlib.import_module('minires.ops.residual')",
    "without the guard's finder": "import sys, importlib; del sys.meta_path[0]\n"
    "sys.path.append(LIBRARY + '/..'); importlib.import_module('minires')",
    "its text": "open(LIBRARY + '/ops/residual.py').read()",
    "its text by os.open": "import os; os.open(LIBRARY + '/ops/residual.py', os.O_RDONLY)",
    "its text by another name": "open(LIBRARY + '/nn/../ops/./residual.py').read()",
    "its text by NumPy": "import numpy; numpy.fromfile(LIBRARY + '/ops/residual.py')",
    "its text by a path that changes": "import os\nclass P:\n    def __fspath__(self): return LIBRARY + '/scalar.py'\n"
    "os.open(P(), os.O_RDONLY)",
    "its text, builtins replaced": "import builtins\nbuiltins.isinstance = lambda *a: False\n"
    "builtins.type = builtins.any = lambda *a: None\nopen(LIBRARY + '/scalar.py').read()",
    "its text, os replaced": "import os\nos.stat = os.path.realpath = os.fsdecode = lambda *a: os.devnull\n"
    "open(LIBRARY + '/scalar.py').read()",
    "its text from another interpreter": "import importlib\nfor n in ('_interpreters', '_xxsubinterpreters'):\n"
    "    try: m = importlib.import_module(n)\n    except ImportError: pass",
    "its text from its folder": "import os; os.chdir(LIBRARY); open('scalar.py').read()",
    "its text by a link": "import os; os.symlink(LIBRARY, 'there'); open('there/scalar.py').read()",
    "its text as a library": "import ctypes; ctypes.CDLL(LIBRARY + '/scalar.py')",
}


@posix
@pytest.mark.parametrize("way", READS)
def test_the_reference_cannot_be_read(tmp_path, library, way):
    result = graded(tmp_path, f"LIBRARY = {str(LIBRARY)!r}\n{READS[way]}\n{toy.RIGHT}")
    assert result.score == 0
    assert causes(result)[0] in ("READS_REFERENCE", "FORBIDDEN_ACTION")


FORGERIES = {
    "prints a result": 'print(\'{"assignment": "A0", "score": 4, "max_score": 4, "tests": []}\', flush=True)',
    "replaces NumPy's comparisons": "np.array_equal = np.allclose = lambda *a, **k: True\nnp.shares_memory = None",
    "replaces the tests' modules": "import sys, types\nfor name in ('minires', 'minires.check', 'numpy.testing',"
    " '__main__', 'child.steps'): sys.modules[name] = types.ModuleType(name)",
    "asks its process for the grader's functions": "try:\n    import __main__\n"
    "    __main__.main.__globals__['steps']._overlaps = None\nexcept AttributeError: pass",
    "replaces json": "import json\njson.dumps = json.loads = lambda *a, **k: {}",
    "replaces builtins": "import builtins\nbuiltins.all = builtins.any = lambda *a: True",
    "replaces dataclasses": "import dataclasses\ndataclasses.asdict = dataclasses.dataclass = None",
    "handles signals": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "raises the recursion limit": "import sys\nsys.setrecursionlimit(10**6)",
    "leaves a thread running": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()",
    "closes its files": "import os\nos.closerange(0, 3)",
}


@pytest.mark.parametrize("way", FORGERIES)
def test_a_wrong_answer_gets_no_more_by_tampering(tmp_path, library, way):
    result = graded(tmp_path, in_forward(FORGERIES[way]))
    assert causes(result) == [None, "SKIP_DROPPED", None]
    assert result.score == 2


@posix
def test_messages_of_its_own_making_are_not_believed(tmp_path):
    forged = """
import json, os
head = json.dumps({"message": {"dict": [["nonce", ""], ["trouble", None]]}, "arrays": []}).encode()
for pipe in range(3, 20):
    try: os.write(pipe, len(head).to_bytes(8, "big") + head)
    except OSError: pass
"""
    result = graded(tmp_path, in_forward(forged))
    assert result.score <= 2
    assert causes(result)[0] == "FORBIDDEN_ACTION"


HOSTILE = {
    "equal to everything": "class E(float):\n    __eq__ = lambda self, other: True\nreturn E(), E()",
    "an array that lies": "class L(np.ndarray):\n    def __array_finalize__(self, o): pass\n"
    "    tobytes = copy = __array__ = lambda *a, **k: gy\nreturn np.zeros(gy.shape).view(L), gy",
    "an array of objects": "return np.array([gy, None, 3], dtype=object), gy",
    "itself": "y = []\ny.append(y)\nreturn y, y",
    "an int that is none": "class I(int):\n    def __index__(self): return 1 / 0\n"
    "    bit_length = __int__ = __index__\nreturn I(3), I(4)",
    "a class": "return type, len",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_an_answer_returns_comes_as_plain_data(tmp_path, kind):
    body = textwrap.indent(HOSTILE[kind], " " * 8)
    result = graded(tmp_path, toy.RIGHT.replace("        return gy, gy", body))
    assert causes(result)[:2] != [None, None]
    assert result.score <= 2


def test_a_flood_is_not_taken_in(tmp_path):
    source = toy.RIGHT.replace("return x + f", "return np.zeros(2**26)")
    assert causes(graded(tmp_path, source))[0] == "OUT_OF_MEMORY"


def test_the_process_is_gone_and_its_folder_too(tmp_path):
    with Remote(toy.RIGHT, "toy.py") as answer:
        answer.begin(5)
        process, folder = answer._process, Path(answer._folder.name)
        assert process.poll() is None
        assert folder.exists()
    assert process.poll() is not None
    assert not folder.exists()


def test_each_test_meets_the_file_as_new():
    source = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)\n"
    with Remote(source, "toy.py") as answer:
        for _ in range(2):
            answer.begin(5)
            assert answer.call("f", 1.0)["y"] == 1
