import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels import embedding
from minires.ops.embedding import Embedding
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order

BOUND = {np.float64: 1e-12, np.float32: 2e-5}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=0, max_size=3), st.integers(1, 30), st.integers(1, 5), st.data())
def test_embedding_equals_its_formula(shape, v, d, data):
    rng, dtype = np.random.default_rng(data.draw(st.integers(0, 999))), data.draw(st.sampled_from(DTYPES))
    draw = lambda *s: in_order(rng.normal(size=s).astype(dtype), data.draw(st.sampled_from(ORDERS)))
    indices = rng.integers(0, data.draw(st.sampled_from([1, v])), shape)
    padding = data.draw(st.sampled_from([None, 0, v - 1, -1]))
    f = lambda w: F.embedding(indices, w, padding)
    assert_equals_formula(embedding.SortedEmbedding, f, draw(v, d), gy=draw(*shape, d), tolerance=BOUND[dtype])


def test_a_negative_index_means_the_same_row_as_its_positive_twin():
    w, indices = np.random.default_rng(0).normal(size=(300, 64)), np.array([-1, 299, 0, -300] * 64)
    y = Embedding.apply(Tensor(w, requires_grad=True), indices, padding_idx=None)
    assert type(y.op) is embedding.SortedEmbedding
    gy = np.random.default_rng(1).normal(size=y.shape)
    got = y.op.backward(gy)[0]
    np.testing.assert_allclose(got[299], gy[0::4].sum(0) + gy[1::4].sum(0), rtol=1e-12)
    np.testing.assert_allclose(got[0], gy[2::4].sum(0) + gy[3::4].sum(0), rtol=1e-12)
    assert not got[1:299].any()


def test_what_the_kernel_does_not_take_falls_back_to_the_formula():
    w = np.random.default_rng(0).normal(size=(300, 64))
    look_up = lambda w, indices: type(F.embedding(indices, Tensor(w, requires_grad=True)).op)
    many = np.arange(256)
    assert look_up(w, many) is embedding.SortedEmbedding
    assert look_up(w, many[:10]) is Embedding
    assert look_up(w, many[:0]) is Embedding
    assert look_up(w + 0j, many) is Embedding
