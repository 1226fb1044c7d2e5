"""GPT on other streams over depth: at the start GPT itself, later something that GPT cannot be."""

import numpy as np
import pytest

import minires as mr
from minires import models
from minires.errors import RequestError
from minires.nn import depth_matrix
from minires.switches import no_grad

SIZES = {"vocab_size": 11, "context": 7, "layers": 3, "heads": 2, "width": 8}
STREAMS = [("attnres_gpt", {}), ("attnres_gpt", {"period": 2}), ("attnres_gpt", {"period": 6}), ("hyper_gpt", {})]


def pair(name, options):
    """The model, and a GPT with its weights; the norms' epsilon, which sees a factor on the stream, is 0."""
    mr.manual_seed(5)
    gpt = models.create("gpt_char", **SIZES).to(np.float64)
    model = models.create(name, **SIZES, **options).to(np.float64)
    model.load_state_dict(gpt.state_dict(), strict=False)
    for net in (gpt, model):
        for module in net.modules():
            if hasattr(module, "eps"):
                module.eps = 0.0
    model.transformer.stream.eps = 0.0
    return model, gpt


@pytest.mark.parametrize(("name", "options"), STREAMS)
def test_at_the_start_it_is_gpt(name, options):
    model, gpt = pair(name, options)
    tokens = np.random.default_rng(1).integers(0, 11, (2, 7))
    expected = gpt(tokens).numpy()
    assert np.max(np.abs(model(tokens).numpy() - expected)) < 1e-12 * np.max(np.abs(expected))


@pytest.mark.parametrize(("name", "options"), STREAMS)
def test_its_stream_has_weights_that_change_what_it_says(name, options):
    model, gpt = pair(name, options)
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 11, (2, 7))
    with no_grad():
        for p in model.transformer.stream.parameters():
            p.copy_(p.numpy() + 0.5 * rng.standard_normal(p.shape))
    assert np.max(np.abs(model(tokens).numpy() - gpt(tokens).numpy())) > 1e-3


def test_the_matrix_of_a_hyper_gpt_starts_as_n_residual_streams():
    m = depth_matrix(models.create("hyper_gpt", **SIZES, streams=4).transformer.stream)
    expected = np.tri(7)
    expected[-1] *= 4  # the streams are added up at the end
    assert np.array_equal(m, expected)


def test_a_cache_is_refused_since_there_is_none():
    model, gpt = pair("attnres_gpt", {})
    assert model.new_cache() is None
    with no_grad(), pytest.raises(RequestError, match="generate without a cache"):
        model(np.zeros((1, 2), int), gpt.new_cache())
