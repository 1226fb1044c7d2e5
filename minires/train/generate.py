"""What `minires generate` does: text from a run that trained a language model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minires import models
from minires.data.text import load_tokenizer
from minires.errors import RequestError
from minires.models.generate import generate
from minires.train import config, judge, report
from minires.train.tasks.language import TOKENIZER, build_model


def write(piece: str) -> None:
    """Shows a piece of text at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def run(
    directory: Path,
    prompt: str = "\n",
    tokens: int = 500,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    seed: int = 0,
    which: str = "best",
    device: str = "cpu",
    show: Callable[[str], None] = write,
) -> None:
    """Shows the prompt and then, as they come, the tokens that the run's model writes after it.

    which    the checkpoint, "best" or "last"

    Raises RequestError when the directory is no run of a language model, for a prompt that its vocabulary cannot
    write, and for values that cannot be.
    """
    if seed < 0:
        raise RequestError(f"--seed is {seed}, but must be at least 0")
    options = config.load(directory / report.CONFIG)
    tokenizer = load_tokenizer(directory / TOKENIZER)
    path, arrays, _ = judge.read(directory, which)
    model = build_model(options.model, options.model_options, tokenizer, device)
    try:
        model.load_state_dict(arrays)
    except (ValueError, KeyError) as error:
        raise RequestError(f"{path} is not of the {options.model} that {directory} trained: {error}") from None
    start = tokenizer.encode(prompt)
    stream = generate(
        model,
        start,
        tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        greedy=greedy,
        generator=np.random.default_rng(seed),
    )
    show(prompt)
    for piece in tokenizer.stream(stream):
        show(piece)
    show("\n")
    context = {**models.info(options.model).options, **options.model_options}["context"]
    if len(start) + tokens > context + 1:
        print(f"(each token was chosen by the {context} before it, the model's context)", file=sys.stderr)
