"""GPT at two layers of eight numbers; the counts of Hugging Face's GPT-2."""

from minires import functional as F
from tests.models.small import Small, tokens


def next_token(model, read, targets):
    """Cross-entropy of the logits (N, T, V) against the tokens (N, T) that came next."""
    logits = model(read)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


SIZES = {"vocab_size": 7, "context": 6, "layers": 2, "heads": 2, "width": 8, "dropout": 0.0}

SMALL = [Small(name, SIZES, tokens(), next_token) for name in ("gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl")]
SMALL.append(Small("gpt_char", {**SIZES, "tied": False}, tokens(), next_token))

TABLE = 65 * 128 + 128 * 128  # embeddings of tokens and places
BLOCK = 4 * 128 + (128 * 384 + 384) + (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128)

COUNTS = [
    ("gpt2", {}, 124_439_808),
    ("gpt2_medium", {}, 354_823_168),
    ("gpt2_large", {}, 774_030_080),
    ("gpt2_xl", {}, 1_557_611_200),
    ("gpt2", {"tied": False}, 124_439_808 + 50_257 * 768),
    ("gpt_char", {}, TABLE + 4 * BLOCK + 2 * 128),
]
