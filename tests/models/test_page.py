"""The page of models is what the registry says, and names what the README promises."""

from pathlib import Path

import pytest

from minires import models
from minires.cli import main
from minires.errors import RequestError

PAGE = Path(__file__).parents[2] / "tutorials/site/models.md"

PROMISED = [
    "plain20",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet1202",
    "wrn28_10",
    "preact_resnet110",
    "preact_resnet164",
    "preact_resnet1001",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "plain34",
    "se_resnet50",
    "highway_mlp50",
    "highway_cnn19",
    "densenet40",
    "densenet_bc100",
    "densenet121",
    "unet",
    "alexnet",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "efficientnet_b0",
    "vit_tiny",
    "transformer_base",
    "bert_base",
    "gpt2",
    "gpt_char",
    "conformer_s",
    "attnres_gpt",
    "hyper_gpt",
    "policy_value_tower",
    "stochastic_depth_resnet110",
    "rezero_resnet56",
    "fixup_resnet56",
]


def test_the_page_is_what_the_command_prints(capsys):
    assert main(["models", "--markdown"]) == 0
    table = capsys.readouterr().out.strip()
    assert table in PAGE.read_text(encoding="utf-8"), "make it anew: minires models --markdown"


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_listed_with_depth_skip_and_source(name):
    assert name in models.names()
    about = models.info(name)
    assert about.depth > 1
    assert about.skip
    assert any(year in about.source for year in map(str, range(1985, 2027)))


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(RequestError, match="gpt_char"):
        models.create("gpt_chr")


def test_classes_that_a_model_does_not_have_are_refused():
    with pytest.raises(RequestError, match="takes no num_classes"):
        models.create("gpt_char", num_classes=3)
