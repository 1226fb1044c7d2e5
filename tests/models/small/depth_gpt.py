"""GPT with attention residuals, in full and over blocks, and with hyper-connections; what each adds to GPT's count."""

from tests.models.small import Small, tokens
from tests.models.small.gpt import BLOCK, SIZES, TABLE, next_token

SMALL = [
    Small("attnres_gpt", SIZES, tokens(), next_token),
    Small("attnres_gpt", {**SIZES, "period": 3}, tokens(), next_token),
    Small("hyper_gpt", {**SIZES, "streams": 3}, tokens(), next_token),
]

GPT_CHAR = TABLE + 4 * BLOCK + 2 * 128
COUNTS = [
    ("attnres_gpt", {}, GPT_CHAR + (8 + 1) * 2 * 128),
    ("hyper_gpt", {}, GPT_CHAR + 8 * (4 * 4 + 2 * 4)),
]
