"""The tone words: what is drawn, what a feature is, and that the order of the sounds is needed to tell words apart."""

import numpy as np
import pytest

from minires.data import tones
from minires.data.tones import BINS, FORMANTS, HOP, RATE, SAMPLES, WINDOW, WORDS
from minires.errors import RequestError


@pytest.fixture(scope="module")
def parts():
    return tones.load(sequences=400)


def test_the_parts_are_apart_balanced_and_always_the_same(parts):
    assert [len(words) for _, words in parts] == [400, 100, 100]
    for features, words in parts:
        assert features.shape == (len(words), (SAMPLES - WINDOW) // HOP + 1, 40)
        assert features.dtype == np.float32
        assert np.array_equal(np.bincount(words), np.full(10, len(words) // 10))
    rows = np.concatenate([features.reshape(len(features), -1) for features, _ in parts])
    assert len(np.unique(rows, axis=0)) == 600
    tones.load.cache_clear()
    again = tones.load(sequences=400)
    for (a, b), (c, d) in zip(parts, again, strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    assert not np.array_equal(tones.load(sequences=400, seed=1).train[0], parts.train[0])


def test_every_word_has_its_twin_backward_and_no_other():
    assert len(set(WORDS)) == 10
    for k, word in enumerate(WORDS):
        assert WORDS[9 - k] == word[::-1] != word
        assert sum(sorted(other) == sorted(word) for other in WORDS) >= 2


def nearest(parts, picture):
    """(share of words, share of words or their twins) that the nearest class mean gets right."""
    (a, b), (x, y) = parts.train, parts.test
    a, x = (picture(f).reshape(len(f), -1) for f in (a, x))
    means = np.stack([a[b == k].mean(0) for k in range(10)])
    found = ((x[:, None] - means) ** 2).sum(2).argmin(1)
    return np.mean(found == y), np.mean(np.minimum(found, 9 - found) == np.minimum(y, 9 - y))


def test_who_only_adds_up_over_time_confuses_each_word_with_its_twin(parts):
    right, up_to_order = nearest(parts, lambda f: f.mean(1))
    assert up_to_order > 0.7
    assert right < 0.65 * up_to_order
    assert nearest(parts, lambda f: f)[0] > right


def test_a_pure_tone_is_loudest_in_the_band_it_belongs_to():
    time = np.arange(SAMPLES) / RATE
    for hz in (200.0, 700.0, 1500.0, 3000.0):
        features = tones.log_mel(np.sin(2 * np.pi * hz * time)[None].astype(np.float32), 20)[0]
        weights = tones.mel_filters(20)[round(hz / (RATE / 2) * (BINS - 1))]
        assert set(features.argmax(1)) <= set(np.flatnonzero(weights >= 0.3)), hz


def test_a_frame_is_the_log_of_its_own_energy_by_a_slow_transform():
    wave = np.random.default_rng(2).standard_normal(2 * HOP + WINDOW)
    t, k = np.arange(WINDOW), np.arange(BINS)
    fourier = np.exp(-2j * np.pi * np.outer(k, t) / (2 * (BINS - 1)))
    bell = 0.5 - 0.5 * np.cos(2 * np.pi * t / (WINDOW - 1))
    energies = [np.abs(fourier @ (bell * wave[i * HOP : i * HOP + WINDOW])) ** 2 for i in range(3)]
    logs = np.log(np.array(energies) @ tones.mel_filters(12) + 1e-5)
    expected = (logs - logs.mean()) / logs.std()
    assert np.allclose(tones.log_mel(wave[None].astype(np.float32), 12)[0], expected, atol=1e-4)


def test_mel_filters_overlap_to_one_between_the_first_and_the_last_peak():
    filters = tones.mel_filters(10)
    assert filters.shape == (BINS, 10)
    assert filters.min() == 0
    peaks = filters.argmax(0)
    assert np.all(np.diff(peaks) > 0)
    assert np.all(np.diff(peaks, 2) >= -1)  # wider and wider in Hz, to a bin's width
    assert np.allclose(filters[peaks[0] + 1 : peaks[-1]].sum(1), 1)


def test_a_word_is_heard_as_its_vowels_in_their_order():
    """The energy below 1 kHz moves up or down as the first formant does from the first vowel to the last."""
    words = np.arange(10).repeat(20)
    energy = np.exp(tones.log_mel(tones.speak(words, np.random.default_rng(4)), 40)[:, :, :18])  # (200, T, 18)
    heights = energy @ np.arange(18.0) / energy.sum(2)  # (200, T), in mel bands
    for k, word in enumerate(WORDS):
        rise = FORMANTS[word[-1]][0] - FORMANTS[word[0]][0]
        early, late = heights[words == k, 15:30].mean(), heights[words == k, -30:-15].mean()
        assert abs(rise) < 300 or np.sign(late - early) == np.sign(rise), word


def test_too_few_sequences_and_no_mels_are_refused():
    with pytest.raises(RequestError, match="sequences"):
        tones.load(sequences=39)
    with pytest.raises(RequestError, match="mels"):
        tones.mel_filters(0)
