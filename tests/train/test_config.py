"""Options: every bad value is one line that names the option, and a config survives its file."""

import json

import pytest

from minires import data
from minires.errors import RequestError
from minires.train import config


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("data", "imagenet", "--data 'imagenet' is unknown; there are .*digits"),
        ("model", "resnet21", "resnet20 or resnet26"),
        ("model", "transformer9000", "unknown model"),
        ("optimizer", "lion", "--optimizer 'lion' is unknown; there are sgd, adam"),
        ("schedule", "wavy", "--schedule 'wavy' is unknown; there are none, step"),
        ("epochs", 0, "--epochs is 0, but must be at least 1"),
        ("epochs", -3, "--epochs is -3"),
        ("epochs", 2.5, "whole number"),
        ("epochs", True, "--epochs is True"),
        ("batch_size", 0, "--batch-size is 0, but must be at least 1"),
        ("batch_size", -1, "--batch-size is -1"),
        ("lr", 0.0, "--lr is 0.0, but must be above 0"),
        ("lr", -0.1, "--lr is -0.1"),
        ("lr", float("nan"), "--lr is nan"),
        ("lr", float("inf"), "--lr is inf"),
        ("momentum", 1.0, "--momentum is 1.0"),
        ("weight_decay", -1e-4, "--weight-decay is -0.0001"),
        ("label_smoothing", 1.0, "--label-smoothing is 1.0"),
        ("clip_norm", 0.0, "--clip-norm is 0.0"),
        ("val_fraction", 0.0, "--val-fraction is 0.0"),
        ("val_fraction", 1.0, "--val-fraction is 1.0"),
        ("seed", -1, "--seed is -1"),
        ("warmup_epochs", 99.0, "must be less than --epochs"),
        ("warmup_epochs", 1.0, "one-cycle warms up on its own"),
        ("model_options", {"wdith": 8}, "--option wdith: resnet8 has no such option; it has .*width"),
        ("device", "tpu", "unknown device 'tpu'"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option(option, value, said):
    with pytest.raises(RequestError, match=said) as caught:
        config.create(**{option: value})
    assert "\n" not in str(caught.value)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(RequestError, match="--nesterov"):
        config.create(nesterov=True, momentum=0.0)
    with pytest.raises(RequestError, match="--nesterov"):
        config.create(nesterov=True, optimizer="adam")


def test_what_is_given_wins_over_the_recipe_and_the_recipe_over_the_defaults():
    assert config.create(data="cifar10").model == "resnet20"
    assert config.create(data="cifar10", model="plain20", epochs=None).model == "plain20"
    assert config.create(optimizer="adamw").lr == 1e-3
    assert config.create(optimizer="adamw", lr=0.5).lr == 0.5


@pytest.mark.parametrize("name", sorted(config.RECIPES))
def test_every_recipe_is_valid_and_for_a_data_set_that_exists(name):
    assert name in data.names()
    assert config.create(data=name).data == name


def test_a_config_survives_its_file(tmp_path):
    original = config.create(model_options={"width": 8}, clip_norm=1.0, lr=0.1 + 0.2)
    config.save(original, tmp_path / "config.json")
    assert config.load(tmp_path / "config.json") == original


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        (json.dumps({"epochz": 1}), "epochz"),
        (json.dumps({"epochs": 0}), "--epochs is 0"),
        (json.dumps({"model": 3}), "cannot be used|unknown model"),
    ],
)
def test_a_damaged_config_is_refused_by_file_name(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RequestError, match=said) as caught:
        config.load(tmp_path / "config.json")
    assert "config.json" in str(caught.value)


def test_a_folder_without_config_is_not_a_run(tmp_path):
    with pytest.raises(RequestError, match="not a run directory"):
        config.load(tmp_path / "config.json")


def test_the_help_text_states_the_recipes_that_are_used():
    epochs = {name: config.create(data=name).epochs for name in config.RECIPES}
    from minires.cli import parser

    actions = {a.dest: a for a in parser()._subparsers._group_actions[0].choices["train"]._actions}
    stated = actions["epochs"].help
    for name in ("digits", "mnist", "fashion-mnist"):
        assert f"{name} {epochs[name]}" in stated
    assert f"CIFAR {epochs['cifar10']}" in stated
    digits = config.create()
    for option in ("batch_size", "lr", "weight_decay", "val_fraction"):
        assert f"digits {getattr(digits, option)}" in actions[option].help
