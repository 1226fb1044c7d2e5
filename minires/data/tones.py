"""Ten spoken words that no one has ever said: three vowels each, two tones to a vowel, and the features made of them.

A vowel is heard by its two lowest formants, so a word here is two sine tones that glide from one vowel to the next.
Speaker, speed, onset, loudness and noise differ from utterance to utterance. Word 9 - k is word k backward: the same
sounds in another order, so who only adds up what is heard over time must confuse them. NumPy only.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from minires.data.datasets import require_whole

RATE = 8000  # samples a second
SAMPLES = 6400
WINDOW, HOP, BINS = 200, 80, 129  # 25 ms and 10 ms; a 256-point Fourier transform
FORMANTS = {"a": (730.0, 1090.0), "e": (530.0, 1840.0), "i": (270.0, 2290.0), "u": (300.0, 870.0)}  # Hz
_FORWARD = ("aiu", "iau", "aeu", "eia", "ieu")
WORDS = (*_FORWARD, *(word[::-1] for word in reversed(_FORWARD)))

Part = tuple[np.ndarray, np.ndarray]


class Tones(NamedTuple):
    """Training, validation and test utterances, each (features (N, T, mels) float32, words (N,) int64)."""

    train: Part
    validation: Part
    test: Part


@functools.cache
def load(sequences: int = 2000, mels: int = 40, seed: int = 0) -> Tones:
    """`sequences` training utterances, and a quarter as many each for validation and test, drawn apart.

    Raises RequestError for fewer than 40 sequences.
    """
    require_whole("tones: sequences", sequences, low=40)
    counts = (sequences, sequences // 4, sequences // 4)
    children = np.random.SeedSequence(seed).spawn(len(counts))
    return Tones(*(_part(count, mels, np.random.default_rng(c)) for count, c in zip(counts, children, strict=True)))


def _part(count: int, mels: int, rng: np.random.Generator) -> Part:
    words = rng.permutation(np.arange(count) % len(WORDS))
    return log_mel(speak(words, rng), mels), words


def speak(words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One utterance of each word: waves (N, SAMPLES) float32, sampled at RATE, noise 8 dB louder to 12 softer.

    words    (N,), indices into WORDS
    """
    waves = np.empty((len(words), SAMPLES), np.float32)
    for wave, word in zip(waves, words, strict=True):
        wave[...] = _utter(WORDS[word], rng)
    return waves


def _utter(word: str, rng: np.random.Generator) -> np.ndarray:
    length = int(rng.uniform(0.55, 0.95) * SAMPLES)
    onset = rng.integers(SAMPLES - length + 1)
    bounds = np.cumsum([0.0, *rng.dirichlet([12.0] * len(word))])  # where each vowel begins and ends
    middles = (bounds[1:] + bounds[:-1]) / 2
    time = np.linspace(0, 1, length)
    speaker = rng.uniform(0.88, 1.14)  # a longer throat, lower formants
    voice = np.zeros(length)
    for formant, loudness in ((0, 1.0), (1, rng.uniform(0.4, 0.8))):
        pitch = speaker * np.interp(time, middles, [FORMANTS[vowel][formant] for vowel in word])  # (length,), Hz
        voice += loudness * np.sin(2 * np.pi * (np.cumsum(pitch) / RATE + rng.random()))
    voice *= np.sin(np.pi * time) ** 0.5  # it swells and fades
    noise = 10 ** (-rng.uniform(-8, 12) / 20) * np.sqrt(np.mean(voice * voice))
    wave = noise * rng.standard_normal(SAMPLES)
    wave[onset : onset + length] += voice
    return wave


def log_mel(waves: np.ndarray, mels: int = 40) -> np.ndarray:
    """log of the energy in each mel band, frame by frame, less the utterance's mean and over its standard deviation.

    Shapes    waves: (N, samples), sampled at RATE; features: (N, T, mels) float32, T = (samples - WINDOW) // HOP + 1
    """
    frames = np.lib.stride_tricks.sliding_window_view(waves, WINDOW, axis=1)[:, ::HOP]  # (N, T, WINDOW)
    bell = np.hanning(WINDOW).astype(np.float32)
    filters = mel_filters(mels)
    features = np.empty((*frames.shape[:2], mels), np.float32)
    for y, x in zip(features, frames, strict=True):  # one utterance at a time keeps the spectra small
        spectrum = np.fft.rfft(x * bell, 2 * (BINS - 1))  # (T, BINS)
        y[...] = np.log((spectrum.real**2 + spectrum.imag**2) @ filters + 1e-5)
    features -= features.mean(axis=(1, 2), keepdims=True)
    return features / features.std(axis=(1, 2), keepdims=True)


@functools.cache
def mel_filters(mels: int) -> np.ndarray:
    """Triangles that overlap by half and are equally wide to the ear, from 60 Hz to half the RATE: (BINS, mels).

    mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy 1987).
    """
    require_whole("tones: mels", mels, low=1)
    top = RATE / 2
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (60.0, top))
    edges = 700 * (10 ** (np.linspace(low, high, mels + 2) / 2595) - 1)  # (mels + 2,), Hz
    hz = np.linspace(0, top, BINS)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
