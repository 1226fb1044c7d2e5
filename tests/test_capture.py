"""A whole training step as one launch: k replays are k steps, and what a step must not do is refused in one line.

The strict device takes a recording literally: while it lasts nothing is changed, and a replay repeats the operations on
the same memory without running any Python. So a step that leaves something to Python, or to other memory, ends up
elsewhere. With a GPU the same tests run on it.
"""

import gc
import inspect

import numpy as np
import pytest

from minires import backend, cuda_graph, models, nn, optim
from minires import functional as F
from minires.engine import Tensor
from minires.errors import CaptureError, RequestError
from tests import strict_graph
from tests.strict_device import STRICT, counts, no_sync
from tests.strict_device import xp as strict

rng = np.random.default_rng(8)
BATCHES = [(rng.standard_normal((8, 1, 8, 8)), rng.integers(10, size=8)) for _ in range(12)]


def resnet():
    return models.create("resnet8", 10, 1, width=4)


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a norm and beside a skip."""

    def __init__(self):
        self.embed, self.norm, self.after = nn.Linear(8, 12), nn.LayerNorm(12), nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.inner, self.outer, self.head = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = self.embed(F.reshape(x, (-1, 8, 8)))  # (N, T, D)
        y = self.norm(x)
        x = x + self.attention(y, y, y, is_causal=True)[0]
        x = x + self.outer(F.gelu(self.inner(self.after(x))))
        return self.head(F.mean(x, 1))


OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "Adam": {"lr": 0.1, "weight_decay": 0.01},
    "AdamW": {"lr": 0.1},
    "RMSprop": {"lr": 0.1, "momentum": 0.5, "centered": True},
}


class Training:
    """A model, its optimizer and schedule on a device, and one step of them."""

    def __init__(self, library, kind="SGD", dtype=np.float32, model=resnet):
        backend.manual_seed(2)
        self.library, self.ran = library, 0
        self.model = model().to(library.device, dtype)
        self.optimizer = getattr(optim, kind)(self.model.named_parameters(), **OPTIMIZERS[kind])
        self.schedule = optim.OneCycleLR(self.optimizer, 0.1, total_steps=20, cycle_momentum=False)
        self.total = library.xp.zeros((), np.float64)
        self.dtype = dtype

    def step(self, x, t):
        self.ran += 1
        loss = F.cross_entropy(self.model(x), t, label_smoothing=0.1)
        self.optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.total += loss.data
        return loss.detach()

    def held(self):
        state = self.optimizer.state.items()
        return {
            "total": self.total,
            **{name: t.data for name, t in self.model.state_dict().items()},
            **{f"{key} of {name}": a for name, entries in state for key, a in entries.items()},
        }

    def run(self, step, batches=BATCHES):
        losses = []
        for images, labels in batches:
            loss = step(self.library.upload(images.astype(self.dtype)), self.library.upload(labels))
            losses.append(float(loss.data))
            self.schedule.step()
        return losses

    def captured(self, **options):
        return backend.capture(self.step, self.held, library=self.library, **options)

    def end(self):
        return {name: backend.to_host(a).copy() for name, a in self.held().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


# --- replays are steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_captured_training_is_the_plain_one_bit_for_bit(library, kind, dtype):
    plain, captured = (Training(library, kind, dtype) for _ in range(2))
    step = captured.captured()
    assert captured.run(step) == plain.run(plain.step)
    assert_same(captured.end(), plain.end())
    assert captured.ran == 4  # three to warm up, and one that is recorded


def test_a_transformer_is_captured_too(library):
    plain, captured = (Training(library, "AdamW", np.float64, Block) for _ in range(2))
    assert captured.run(captured.captured()) == plain.run(plain.step)
    assert_same(captured.end(), plain.end())
    assert captured.ran == 4


def test_a_replay_neither_waits_nor_uploads():
    training = Training(STRICT)
    step = training.captured()
    training.run(step, BATCHES[:4])
    x, t = STRICT.asarray(BATCHES[0][0].astype(np.float32)), STRICT.asarray(BATCHES[0][1])
    with no_sync():
        for _ in range(3):
            step(x, t)
    assert training.ran == 4


def test_results_lie_in_the_same_memory_and_inputs_are_copied(library):
    step = backend.capture(lambda x: x + 1, warmup=0, library=library)
    x = library.asarray(np.array([1.0, 2.0]))
    y = step(x)
    first = backend.to_host(y).copy()
    x *= 10
    assert step(x) is y
    assert (first.tolist(), backend.to_host(y).tolist()) == ([2.0, 3.0], [11.0, 21.0])


def test_a_last_batch_of_another_size_is_a_graph_of_its_own_and_a_third_size_stays_plain(library):
    ran, held = [], library.asarray(np.zeros(1))

    def step(x):
        nonlocal held
        ran.append(len(x))
        held += x.sum()
        return held

    captured = backend.capture(step, lambda: {"held": held}, warmup=1, library=library)
    for n in (3, 3, 3, 2, 2, 2, 4, 4, 4, 3, 2):
        captured(library.asarray(np.ones(n)))
    assert float(held[0]) == 33 - 1
    assert ran == [3, 3, 2, 2, 4, 4, 4]


def test_work_around_the_replays_is_done_in_the_order_it_was_asked_for(library):
    held = library.asarray(np.zeros(3))

    def add(x):
        nonlocal held
        held += x

    step = backend.capture(add, lambda: {"held": held}, warmup=0, library=library)
    for i in range(50):
        step(library.asarray(np.full(3, float(i))))
        held *= 0.5
    expected = 0.0
    for i in range(50):
        expected = (expected + i) * 0.5
    assert backend.to_host(held).tolist() == [expected] * 3


def test_on_numpy_a_step_is_itself():
    def step(x):
        return x

    assert backend.capture(step) is step
    with backend.device("strict"):
        assert backend.capture(step) is not step


def test_the_learning_rate_is_read_anew_and_other_options_are_recorded_anew(library):
    training = Training(library)
    peer = Training(library)
    step = training.captured()
    for i, batch in enumerate(BATCHES):
        for side in (training, peer):
            if i == 6:
                side.optimizer.param_groups[0]["momentum"] = 0.5
        assert training.run(step, [batch]) == peer.run(peer.step, [batch])
    assert_same(training.end(), peer.end())
    assert training.ran == 5


def test_a_number_that_is_live_follows_its_function():
    number, held = [1.0], strict.zeros(())

    def step():
        held[...] = held + cuda_graph.live(strict, lambda: number[0])

    captured = backend.capture(step, lambda: {"held": held}, warmup=0, library=STRICT)
    for value in (1.0, 1.0, 5.0, 2.0):
        number[0] = value
        captured()
    assert float(held) == 9.0
    assert cuda_graph.live(strict, lambda: 3.0) == 3.0
    cuda_graph.constant(lambda: pytest.fail("nothing is recorded, so nothing is kept"))


# --- what a step must not do -------------------------------------------------------------------------------


def zeros(n=3):
    return strict.zeros(n)


REFUSED = {
    "item": (lambda x: x.sum().item(), r"item\(\) costs one sync"),
    "if": (lambda x: x if x.sum() > 0 else -x, r"bool\(\) costs one sync"),
    "to the host": (lambda x: x.get(), r"get\(\) costs one sync"),
    "list": (lambda x: strict.asarray([1.0, 2.0]), "of host data costs one upload"),
    "host index": (lambda x: x[np.array([0, 1])], "a host array as index costs one upload"),
    "mask": (lambda x: x[x > 0], "a boolean mask as index costs one sync"),
    "set": (lambda x: x.__setitem__(x > 0, 0.0), "a boolean mask as index costs one sync"),
    "nonzero": (lambda x: strict.nonzero(x), r"nonzero\(\) costs one sync"),
    "join": (lambda x: strict.stack([x] * 9), "of more than eight arrays"),
    "copy": (lambda x: x.set(np.zeros(3)), r"set\(\) costs one upload"),
    "random": (lambda x: STRICT.uniform((3,), np.float32), "it draws random numbers, and every replay would draw the"),
    "dropout": (lambda x: F.dropout(Tensor(x)).data, "it draws random numbers"),
    "wait": (lambda x: STRICT.synchronize(), r"synchronize\(\) costs one sync"),
    "labels": (lambda x: F.cross_entropy(Tensor(x), np.zeros(3)), "input 1 .* is a numpy array"),
}


@pytest.mark.parametrize("broken", REFUSED)
def test_what_a_graph_cannot_contain_is_told_in_one_line_and_nothing_is_changed(broken):
    breaks, message = REFUSED[broken]
    held = zeros()

    def step(x):
        nonlocal held
        held += x
        return breaks(x)

    captured = backend.capture(step, lambda: {"held": held}, warmup=0, library=STRICT)
    with pytest.raises(CaptureError, match=f"^this step cannot be captured: .*({message})") as caught:
        captured(strict.ones(3))
    assert "\n" not in str(caught.value)
    assert held.get().tolist() == [0.0, 0.0, 0.0]
    assert strict_graph.state.tape is None
    assert not cuda_graph.capturing()
    held += 1  # the device works on
    assert float(held.sum()) == 3.0


def test_eight_arrays_are_joined_without_a_table():
    assert backend.capture(lambda x: strict.stack([x] * 8), warmup=0, library=STRICT)(strict.ones(3)).shape == (8, 3)


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_rests_while_a_step_is_recorded(collecting):
    seen = []
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        backend.capture(lambda: seen.append(gc.isenabled()), warmup=0, library=STRICT)()
        assert (seen, gc.isenabled()) == ([False], collecting)
    finally:
        (gc.enable if before else gc.disable)()


def test_an_array_put_in_anothers_place_is_named(library):
    training = Training(library)

    def step(x, t):
        loss = training.step(x, t)
        mean = training.model.bn1.running_mean
        mean.data = mean.data * 1.0
        return loss

    captured = backend.capture(step, training.held, library=library)
    with pytest.raises(RequestError, match=r"another array in the place of 'bn1\.running_mean', which a replay would"):
        training.run(captured)


def test_state_that_first_appears_in_the_recording_is_named(library):
    training = Training(library)
    with pytest.raises(RequestError, match=r"another array in the place of 'momentum_buffer of conv1\.weight'"):
        training.run(training.captured(warmup=0))


def test_gradients_that_are_not_forgotten_are_noticed():
    """They would be added to those of the last call before the recording, whose memory is another's by now."""
    p = Tensor(strict.ones(3), requires_grad=True)

    def step(x):
        F.sum(F.mul(p, x)).backward()

    captured = backend.capture(step, lambda: {"p": p.data}, library=STRICT)
    for _ in range(3):
        captured(strict.ones(3))
    with pytest.raises(AssertionError, match="memory that has been given back"):
        captured(strict.ones(3))


def test_parameters_that_were_replaced_after_the_recording_are_noticed():
    training = Training(STRICT)
    step = training.captured()
    training.run(step, BATCHES[:5])
    next(training.model.parameters()).data = next(training.model.parameters()).data * 1.0
    with pytest.raises(AssertionError, match="memory that has been given back"):
        training.run(step, BATCHES[5:6])


# --- the double's own streams, against the real ones --------------------------------------------------------


def test_a_recording_does_nothing_until_it_is_launched():
    stream, pool, held = strict_graph.Stream(non_blocking=True), strict_graph.MemoryPool(), zeros()
    null, view = strict_graph.Stream.null, held[1:]
    stream.wait_event(null.record())
    with stream, strict_graph.using_allocator(pool.malloc):
        stream.begin_capture()
        held += 1
        view *= 3
        strict.add.at(held, strict.zeros(2, "int64"), 5.0)
        held[2] = held.sum()
        made = strict.exp(held) - strict.zeros(3)
        graph = stream.end_capture()
    null.wait_event(stream.record())
    assert held.get().tolist() == [0.0, 0.0, 0.0]
    for _ in range(2):
        expected = held.get() + 1
        expected[1:] *= 3
        expected[0] += 10
        expected[2] = expected.sum()
        graph.launch()
        assert np.array_equal(held.get(), expected)
        assert np.array_equal(made.get(), np.exp(expected))


def test_work_on_two_streams_needs_an_event_between_them():
    a, other = strict.ones(3), strict_graph.Stream(non_blocking=True)
    other.wait_event(strict_graph.get_current_stream().record())
    with other:
        b = a + 1
    with pytest.raises(AssertionError, match="may overtake another's"):
        b + 1
    strict_graph.Stream.null.wait_event(other.record())
    assert (b + 1).get().tolist() == [3.0] * 3
    with other, pytest.raises(AssertionError, match="may overtake another's"):
        b + 1
    strict_graph.Stream.null.wait_event(other.record())


def test_a_recording_needs_a_stream_and_memory_of_its_own():
    blocking, free = strict_graph.Stream(), strict_graph.Stream(non_blocking=True)
    with pytest.raises(AssertionError, match="another stream"):
        free.begin_capture()
    with blocking, pytest.raises(AssertionError, match="waits for the default one"):
        blocking.begin_capture()
    with free, pytest.raises(AssertionError, match="handed to others"):
        free.begin_capture()
    with free, strict_graph.using_allocator(strict_graph.MemoryPool().malloc):
        free.begin_capture()
        graph = free.end_capture()
    graph.launch()


def test_the_doubles_streams_have_what_cupys_have():
    cupy = pytest.importorskip("cupy")
    for name, made in vars(strict_graph).items():
        if inspect.isclass(made) and hasattr(cupy.cuda, name) and name != "Graph":
            theirs = getattr(cupy.cuda, name)
            public = [n for n, v in vars(made).items() if n[0] != "_" and callable(v)]
            assert [n for n in public if not hasattr(theirs, n) and n != "send"] == []
    assert hasattr(cupy.cuda.Graph, "launch")
    for name in ("get_current_stream", "using_allocator", "alloc_pinned_memory"):
        assert callable(getattr(cupy.cuda, name))
    for made, options in ((strict_graph.Stream, ["non_blocking"]), (strict_graph.Event, ["disable_timing"])):
        text = str(inspect.signature(getattr(cupy.cuda, made.__name__).__init__)) + (made.__doc__ or "")
        assert all(option in text or option in getattr(cupy.cuda, made.__name__).__doc__ for option in options)


# --- batches that are sent while the device works ------------------------------------------------------------


def test_uploaded_batches_arrive_in_order_and_the_hosts_array_may_be_used_again(library):
    host, kept = np.empty((4, 3), np.float32), []
    for i in range(7):
        host[...] = i
        batch = library.upload(host)
        host[...] = -1
        kept.append(batch * 1.0)
    assert [backend.to_host(k).tolist() for k in kept] == [np.full((4, 3), i).tolist() for i in range(7)]
    assert backend.to_host(library.upload(np.zeros((0, 2)))).shape == (0, 2)


def test_the_batch_before_is_still_there_when_the_next_has_been_uploaded(library):
    first, second = (library.upload(np.full(5, float(i))) for i in (1, 2))
    assert backend.to_host(first).tolist() == [1.0] * 5
    assert backend.to_host(second).tolist() == [2.0] * 5


def test_shapes_and_dtypes_have_places_of_their_own(library):
    x, t = library.upload(np.full((2, 2), 1.5, np.float32)), library.upload(np.arange(4))
    y = library.upload(np.arange(4.0))
    assert (x.dtype, t.dtype, y.dtype) == (np.float32, np.int64, np.float64)
    assert backend.to_host(t).tolist() == [0, 1, 2, 3] == backend.to_host(y).tolist()
    assert float(x.sum()) == 6.0


def test_an_upload_does_not_wait_for_the_device():
    before = dict(counts.seen)
    with no_sync():
        STRICT.upload(np.ones(3))
    assert counts.seen == before


def test_on_numpy_a_batch_is_the_array_itself():
    batch = np.ones(3)
    assert backend.NUMPY.upload(batch) is batch


def test_a_copy_that_nobody_waited_for_holds_nothing_yet():
    stream, array = strict_graph.Stream(non_blocking=True), strict.zeros(2)
    host = np.frombuffer(strict_graph.alloc_pinned_memory(16), "float64")
    host[...] = 7.0
    array.set(host, stream)
    assert np.isnan(array.get()).all()
    event = stream.record()
    strict_graph.Stream.null.wait_event(event)
    assert array.get().tolist() == [7.0, 7.0]
    array + 1
    with pytest.raises(AssertionError, match="may overtake the work that still reads its target"):
        array.set(host, stream)


def test_sending_from_memory_that_is_not_pinned_is_refused():
    with pytest.raises(AssertionError, match="pinned"):
        strict.zeros(2).set(np.zeros(2), strict_graph.Stream(non_blocking=True))
    with pytest.raises(ValueError, match="cannot be copied"):
        strict.zeros(2).set(np.zeros(3))
