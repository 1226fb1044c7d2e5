"""Options: every bad value is one line that names the option, and a config survives its file."""

import json

import pytest

from minires.errors import RequestError
from minires.train import config, tasks


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
        ("pct_start", 0.0, "--pct-start is 0.0, but must lie between 0 and 1"),
        ("pct_start", 1.0, "--pct-start is 1.0"),
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


RECIPES = [(recipe, name) for recipe, sets in config.RECIPES.items() for name in sets]
OTHER = {  # a value that no recipe has
    "model": "resnet14",
    "epochs": 7,
    "batch_size": 77,
    "lr": 0.077,
    "momentum": 0.77,
    "weight_decay": 0.077,
    "optimizer": "rmsprop",
    "schedule": "cosine",
    "pct_start": 0.77,
    "label_smoothing": 0.077,
    "clip_norm": 7.7,
    "val_fraction": 0.077,
    "seed": 77,
}


@pytest.mark.parametrize(("recipe", "name"), RECIPES)
def test_every_recipe_is_valid_and_for_a_data_set_that_exists(recipe, name):
    assert name in tasks.names()
    made = config.create(data=name, recipe=recipe)
    assert (made.data, made.recipe) == (name, recipe)
    for option, value in config.RECIPES[recipe][name].items():
        assert getattr(made, option) == value


def test_every_data_set_has_the_default_recipe_which_needs_no_name():
    assert set(config.RECIPES["default"]) == set(tasks.names())
    for name in tasks.names():
        assert config.create(data=name) == config.create(data=name, recipe="default")


@pytest.mark.parametrize(("recipe", "name"), RECIPES)
@pytest.mark.parametrize("option", OTHER)
def test_an_explicit_option_beats_the_recipe_and_leaves_the_rest_of_it(recipe, name, option):
    if option in config.NOT_FOR_ALL and option not in tasks.find(name).uses:
        pytest.skip("refused: see test_an_option_without_a_use_is_refused")
    usual = config.create(data=name, recipe=recipe)
    made = config.create(data=name, recipe=recipe, **{option: OTHER[option]})
    assert getattr(made, option) == OTHER[option] != getattr(usual, option)
    gives_way = {"optimizer": {"lr", "nesterov"}}.get(option, set())
    for key in config.RECIPES[recipe][name].keys() - {option} - gives_way:
        assert getattr(made, key) == getattr(usual, key)


@pytest.mark.parametrize(("recipe", "name"), RECIPES)
@pytest.mark.parametrize("option", ["augment", "nesterov"])
def test_an_explicit_yes_or_no_beats_the_recipe(recipe, name, option):
    if option == "nesterov" and config.create(data=name, recipe=recipe).optimizer != "sgd":
        pytest.skip("Nesterov's momentum is SGD's")
    for value in (True, False) if option == "nesterov" or "augment" in tasks.find(name).uses else (False,):
        assert getattr(config.create(data=name, recipe=recipe, **{option: value}), option) is value


def test_an_option_without_a_use_is_refused():
    """And no other: what a task says it uses, it takes; and no run notes an option that nothing was done with."""
    given = {"augment": True, "label_smoothing": 0.1, "val_fraction": 0.3}
    assert given.keys() == config.NOT_FOR_ALL.keys()
    for name in tasks.names():
        uses = tasks.find(name).uses
        assert set(uses) <= given.keys()
        for option, value in given.items():
            if option in uses:
                assert getattr(config.create(data=name, **{option: value}), option) == value
            else:
                with pytest.raises(RequestError, match=f"--{option.replace('_', '-')}: {name} has no use for it"):
                    config.create(data=name, **{option: value})
                assert getattr(config.create(data=name), option) == config.NOT_FOR_ALL[option]
        assert config.create(data=name, augment=False, label_smoothing=0.0).augment is False


def test_nesterov_of_a_recipe_gives_way_to_a_momentum_or_an_optimizer_that_was_given():
    assert config.create(data="mnist", recipe="fast").nesterov
    assert not config.create(data="mnist", recipe="fast", momentum=0.0).nesterov
    adam = config.create(data="mnist", recipe="fast", optimizer="adam")
    assert (adam.nesterov, adam.lr) == (False, 1e-3)
    with pytest.raises(RequestError, match="--nesterov"):  # what was given contradicts itself, and is not mended
        config.create(data="mnist", recipe="fast", nesterov=True, momentum=0.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipe": "quick"}, "--recipe 'quick' is unknown; there are default, fast"),
        ({"recipe": "fast"}, "--recipe fast is made for mnist and cifar10, not for digits; drop it, or choose another"),
        ({"recipe": "fast", "data": "cifar"}, "--data 'cifar' is unknown"),
    ],
)
def test_a_recipe_that_is_not_there_is_one_line(given, said):
    with pytest.raises(RequestError, match=said) as caught:
        config.create(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_the_recipe_is_kept_in_the_config_file(tmp_path, recipe):
    original = config.create(data="mnist", recipe=recipe, epochs=2)
    config.save(original, tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["recipe"] == recipe
    assert config.load(tmp_path / "config.json") == original


def test_a_config_file_that_is_older_than_recipes_still_loads(tmp_path):
    original = config.create(data="cifar10", epochs=3)
    config.save(original, tmp_path / "config.json")
    options = json.loads((tmp_path / "config.json").read_text())
    del options["recipe"]
    (tmp_path / "config.json").write_text(json.dumps(options))
    assert config.load(tmp_path / "config.json") == original


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


def train_parser():
    from minires.cli import parser

    return parser()._subparsers._group_actions[0].choices["train"]


def test_the_help_text_states_the_recipes_that_are_used():
    epochs = {name: config.create(data=name).epochs for name in config.RECIPES["default"]}
    actions = {a.dest: a for a in train_parser()._actions}
    stated = actions["epochs"].help
    for name in ("digits", "mnist", "fashion-mnist"):
        assert f"{name} {epochs[name]}" in stated
    assert f"CIFAR {epochs['cifar10']}" in stated
    digits = config.create()
    for option in ("batch_size", "lr", "weight_decay", "val_fraction"):
        assert f"digits {getattr(digits, option)}" in actions[option].help


def test_the_help_text_tells_every_data_set_its_usual_model_and_its_options():
    rows = train_parser().epilog.split("otherwise:\n")[1].split("All but")[0].splitlines()
    told = {name: row for row in rows for name in row[:42].split()}
    assert set(told) == set(tasks.names())
    for name, row in told.items():
        assert row[42:].split()[0] == config.create(data=name).model, name
        optimizer = {0: "sgd", 1: "sgd", rows.index(told["gridworld"]): "adam"}.get(rows.index(row), "adamw")
        assert config.create(data=name).optimizer == optimizer, name
        for option in tasks.find(name).options:
            assert f"{option}=" in train_parser().epilog, option


def test_the_help_text_states_the_fast_recipes_that_are_used():
    stated = train_parser().epilog.split("recipes, ")[1]
    for name in config.RECIPES["fast"]:
        made = config.create(data=name, recipe="fast")
        line = next(line for line in stated.splitlines() if f"{name}:" in line)
        assert f"{made.model}, {made.epochs} epochs, batch {made.batch_size}, lr {made.lr}," in line
        assert line.endswith(f"rising for {made.pct_start} of them")
        assert f"weight decay {made.weight_decay}" in stated
        assert f"{made.val_fraction} held out" in stated
        assert (made.schedule, made.nesterov, made.augment) == ("one-cycle", True, True)
    for recipe in config.RECIPES:
        assert f"  {recipe} " in stated


def test_the_command_line_can_take_a_recipes_yes_back():
    options = vars(train_parser().parse_args(["--data", "mnist", "--recipe", "fast", "--no-nesterov", "--no-augment"]))
    assert (options["recipe"], options["nesterov"], options["augment"]) == ("fast", False, False)
    assert vars(train_parser().parse_args([]))["nesterov"] is None  # not given: the recipe decides
