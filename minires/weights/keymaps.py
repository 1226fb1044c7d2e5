"""Key maps: what other libraries call the tensors that minires has under names of its own.

A map is a table of rows, theirs and ours, and works in both directions. In a row `{i}` stands for a number, `{leaf}`
for the last part of a name and `{rest}` for any part; the first row that matches a name is the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

PARTS = {"{i}": r"(?P<i>\d+)", "{leaf}": r"(?P<leaf>[^.]+)", "{rest}": r"(?P<rest>.+)"}


@dataclass(frozen=True)
class Row:
    """One row: names of theirs and of ours, and whether the matrix is transposed between them."""

    theirs: str
    ours: str
    transposed: bool = False


@dataclass(frozen=True)
class KeyMap:
    """How one library names the tensors of some models.

    Attributes
        peer       the library, as `--keys` names it
        title      which of its models, for people
        models     ours, as patterns of registry names: "resnet[0-9]*"
        rows       the table
        spelling   other ways to write their names, regular expressions and what stands for them in `rows`
        ignored    what their files hold beside weights, as regular expressions
        tied       {theirs: theirs}: a copy of another tensor, which is there once here
    """

    peer: str
    title: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    spelling: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()

    def ours(
        self, state: Mapping[str, np.ndarray], wanted: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """`state` under our names, and those that no row knows, which stay as they are.

        wanted    the model's own names: a tied copy that it has no place for is dropped, if it is a true copy, and
                  one that it has a place for is made
        """
        named: dict[str, np.ndarray] = {}
        for name, array in state.items():
            if not any(re.fullmatch(pattern, name) for pattern in self.ignored):
                for pattern, written in self.spelling:
                    name = re.sub(pattern, written, name)
                named[name] = array
        for copy, original in self.tied:
            if original in named and copy not in wanted and np.array_equal(named.get(copy, ()), named[original]):
                del named[copy]
            elif original in named and copy in wanted:
                named.setdefault(copy, named[original])
        return _renamed(named, [(row.theirs, row.ours, row.transposed) for row in self.rows])

    def theirs(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """`state`, of our names, under theirs and with the tied copies; None where a name has no row."""
        named, unknown = _renamed(state, [(row.ours, row.theirs, row.transposed) for row in self.rows])
        for copy, original in self.tied:
            if original in named:
                named.setdefault(copy, named[original].copy())
        return None if unknown else named

    def of(self, model: str) -> bool:
        """Whether this library has that model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


SAME = Row("{rest}", "{rest}")
MINIRES = KeyMap("minires", "all models", ("*",), (SAME,))
TORCHVISION = KeyMap(
    "torchvision",
    "the same names by design",
    (
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
        "wide_resnet50_2", "alexnet", "vgg*", "densenet121", "densenet161", "densenet169", "densenet201",
        "efficientnet_b0", "mobilenet_v2",
    ),
    (SAME,),
)  # fmt: skip
VIT_BLOCK = "encoder.layers.encoder_layer_{i}."
VIT = KeyMap(
    "torchvision",
    "vit_b_16, whose blocks have other names",
    ("vit_*",),
    (
        Row(VIT_BLOCK + "ln_1.{leaf}", VIT_BLOCK + "self_attn.norm_layer.{leaf}"),
        Row(VIT_BLOCK + "ln_2.{leaf}", VIT_BLOCK + "feedforward.norm_layer.{leaf}"),
        Row(VIT_BLOCK + "mlp.0.{leaf}", VIT_BLOCK + "feedforward.linear1.{leaf}"),
        Row(VIT_BLOCK + "mlp.3.{leaf}", VIT_BLOCK + "feedforward.linear2.{leaf}"),
        Row(VIT_BLOCK + "self_attention.{rest}", VIT_BLOCK + "self_attn.attention.{rest}"),
        SAME,
    ),
)
TIMM = KeyMap(
    "timm",
    "legacy_seresnet18 to 152",
    ("se_resnet*",),
    (
        Row("layer0.conv1.{leaf}", "conv1.{leaf}"),
        Row("layer0.bn1.{leaf}", "bn1.{leaf}"),
        Row("last_linear.{leaf}", "fc.{leaf}"),
        Row("layer{i}.{rest}", "layer{i}.{rest}"),
    ),
)
AKAMASTER = KeyMap(
    "akamaster",
    "pytorch_resnet_cifar10: resnet20 to resnet1202, shortcuts of option A or B",
    ("resnet[0-9]*",),
    (
        Row("conv1.{leaf}", "conv1.{leaf}"),
        Row("bn1.{leaf}", "bn1.{leaf}"),
        Row("layer{i}.{rest}", "layer{i}.{rest}"),
        Row("linear.{leaf}", "linear.{leaf}"),
    ),
    spelling=((r"^module\.", ""), (r"^fc\.", "linear."), (r"\.downsample\.", ".shortcut.")),
)
GPT2 = KeyMap(
    "huggingface",
    "GPT-2: GPT2LMHeadModel, GPT2Model. Its Conv1D keeps weights as (inputs, outputs)",
    ("gpt*",),
    (
        Row("transformer.h.{i}.ln_1.{leaf}", "transformer.h.{i}.attn.norm_layer.{leaf}"),
        Row("transformer.h.{i}.ln_2.{leaf}", "transformer.h.{i}.mlp.norm_layer.{leaf}"),
        Row("transformer.h.{i}.attn.c_attn.weight", "transformer.h.{i}.attn.c_attn.weight", transposed=True),
        Row("transformer.h.{i}.attn.c_proj.weight", "transformer.h.{i}.attn.c_proj.weight", transposed=True),
        Row("transformer.h.{i}.mlp.c_fc.weight", "transformer.h.{i}.mlp.c_fc.weight", transposed=True),
        Row("transformer.h.{i}.mlp.c_proj.weight", "transformer.h.{i}.mlp.c_proj.weight", transposed=True),
        Row("transformer.{rest}", "transformer.{rest}"),
        Row("lm_head.weight", "lm_head.weight"),
    ),
    spelling=((r"^(?=(wte|wpe|h|ln_f)\.)", "transformer."),),
    ignored=(r".*\.attn\.(masked_)?bias",),
    tied=(("lm_head.weight", "transformer.wte.weight"),),
)
BERT = KeyMap(
    "huggingface",
    "BERT: BertModel, BertForMaskedLM, BertForPreTraining",
    ("bert*",),
    (
        Row("bert.{rest}", "bert.{rest}"),
        Row("embeddings.{rest}", "embeddings.{rest}"),
        Row("encoder.{rest}", "encoder.{rest}"),
        Row("pooler.{rest}", "pooler.{rest}"),
        Row("cls.{rest}", "cls.{rest}"),
    ),
    spelling=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    ignored=(r".*embeddings\.position_ids",),
    tied=(
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
)
MAPS: dict[str, tuple[KeyMap, ...]] = {
    "minires": (MINIRES,),
    "torchvision": (TORCHVISION, VIT),
    "timm": (TIMM,),
    "akamaster": (AKAMASTER,),
    "huggingface": (GPT2, BERT),
}


def _renamed(
    state: Mapping[str, np.ndarray], rows: Sequence[tuple[str, str, bool]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """`state` by rows (from, to, transposed), and the names that no row knows, which stay as they are."""
    table = [(_pattern(source), goal, transposed) for source, goal, transposed in rows]
    named, unknown = {}, []
    for name, array in state.items():
        for pattern, goal, transposed in table:
            found = pattern.fullmatch(name)
            if found:
                named[goal.format(**found.groupdict())] = array.T if transposed else array
                break
        else:
            named[name] = array
            unknown.append(name)
    return named, unknown


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for part, pattern in PARTS.items():
        text = text.replace(re.escape(part), pattern)
    return re.compile(text)
