"""The Transformer at its smallest, in each of its norms."""

from minires import functional as F
from tests.models.small import Small


def sentences(rng):
    source, target = rng.integers(3, 9, (4, 5)), rng.integers(3, 9, (4, 6))
    source[0, 3:] = source[2, 1:] = target[1, 4:] = 0
    return source, target[:, :-1], target[:, 1:]


def next_tokens(model, source, target_in, target_out):
    logits = model(source, target_in)  # (N, T, V)
    flat = F.reshape(logits, (-1, logits.shape[-1]))
    return F.cross_entropy(flat, target_out.reshape(-1), ignore_index=0, label_smoothing=0.1)


def smallest(**options):
    small = {"vocab_size": 9, "context": 6, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 4}
    return {**small, "feedforward": 6, "dropout": 0.0, **options}


SMALL = [
    Small("transformer_base", smallest(), sentences, next_tokens, inputs=2),
    Small("transformer_base", smallest(norm="pre"), sentences, next_tokens, inputs=2),
    Small("transformer_base", smallest(deep=True), sentences, next_tokens, inputs=2),
    Small("transformer_tiny", smallest(), sentences, next_tokens, inputs=2),
]
COUNTS = [
    ("transformer_base", {}, 63_082_496),
    ("transformer_base", {"norm": "pre"}, 63_082_496 + 2 * 2 * 512),  # an LN at the end of each stack
]
