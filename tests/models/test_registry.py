"""The registry: what it lists, what it builds, and what it says when it cannot."""

import importlib
import inspect
import pkgutil

import pytest

from minires import backend, models
from minires.errors import RequestError


def test_names_lists_every_family_and_every_name_can_be_described():
    listed = models.names()
    assert {"mlp", "lenet", "plain8", "resnet20", "resnet1202"} <= set(listed)
    for depths in ((8, 14, 20, 32, 44, 56, 110, 1202), (18, 34, 50, 101, 152)):
        assert {f"resnet{n}" for n in depths} <= set(listed)
    assert len(listed) == len(set(listed))
    for family in ("fixup_resnet", "rezero_resnet", "stochastic_depth_resnet"):
        assert [name for name in listed if name.startswith(family)] == [f"{family}{n}" for n in (20, 56, 110)]
    for name in listed:
        about = models.info(name)
        assert about.name == name
        assert about.depth >= 1
        assert about.source
        assert about.skip


def test_info_tells_options_and_defaults():
    about = models.info("resnet56")
    assert (about.family, about.depth) == ("resnet_cifar", 56)
    assert about.options == {"shortcut": "A", "width": 16, "shortcut_kind": "identity", "gate_bias": -6.0}
    assert "He et al. 2015" in about.source
    assert models.info("plain20").options == {"width": 16}
    assert set(models.info("mlp").options) == {"hidden", "image_size"}


def test_describe_counts_without_drawing():
    before = backend.generator_state()
    row = models.describe("resnet20")
    assert (row.name, row.parameters, row.depth) == ("resnet20", 269_722, 20)
    assert models.describe("resnet20", num_classes=100).parameters == 275_572
    assert models.describe("resnet20", shortcut="B").parameters == 272_474
    assert backend.generator_state() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt20", "unknown model 'resnt20': did you mean resnet20"),
        ("lenet5", "did you mean lenet"),
        ("resnet21", r"resnet of this kind has 6n \+ 2 layers; try resnet20 or resnet26"),
        ("resnet2", "try resnet8 or resnet14"),
        ("resnet", "try resnet8 or resnet14"),
        ("xyz", "did you mean mlp|did you mean"),
        ("", "unknown model ''"),
        ("resnet020", "unknown model 'resnet020'"),
    ],
)
def test_an_unknown_name_gets_one_line_with_the_closest(name, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_gets_one_line_with_the_valid_ones():
    with pytest.raises(RequestError, match=r"'resnet20' has no option 'depth'.*shortcut='A', width=16"):
        models.create("resnet20", depth=8)
    with pytest.raises(RequestError, match=r"'plain20' has no option 'shortcut'.*: width=16"):
        models.create("plain20", shortcut="A")


@pytest.mark.parametrize("bad", [{"num_classes": 0}, {"in_channels": -1}, {"num_classes": 2.5}])
def test_counts_below_one_are_refused(bad):
    with pytest.raises(RequestError, match=f"{next(iter(bad))} is .*, but must be an integer of at least 1"):
        models.create("mlp", **bad)


@pytest.mark.parametrize(
    ("name", "options"),
    [("mlp", {"hidden": ("wide",)}), ("mlp", {"hidden": (8, 2.5)}), ("efficientnet_b0", {"width_mult": float("nan")})],
)
def test_options_of_another_kind_than_their_default_are_refused(name, options):
    with pytest.raises(RequestError, match=f"model '{name}': {next(iter(options))} is .*, but must be like"):
        models.create(name, **options)


def test_what_the_package_exports_are_classes_and_the_registry_and_hides_no_file():
    exported = {name: getattr(models, name) for name in models.__all__}
    functions = {name for name, value in exported.items() if inspect.isfunction(value)}
    assert functions == {"create", "describe", "info", "names", "register"}
    assert all(inspect.isclass(value) for name, value in exported.items() if name not in functions)
    for file in pkgutil.iter_modules(models.__path__):
        assert inspect.ismodule(importlib.import_module(f"minires.models.{file.name}"))
        assert inspect.ismodule(getattr(models, file.name)), file.name


def test_a_full_name_wins_over_a_familys_pattern():
    from minires.models import registry

    @models.register("resnet56", depth=3, skip="none", source="a test")
    def odd(num_classes=10, in_channels=3):
        return models.create("mlp", num_classes, in_channels)

    try:
        assert isinstance(models.create("resnet56"), models.MLP)
        assert isinstance(models.create("resnet62"), models.CifarResNet)
    finally:
        del registry._entries["resnet56"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet8", {"width": "abc"}, "width is 'abc', but must be like 16"),
        ("resnet8", {"width": True}, "width is True, but must be like 16"),
        ("resnet8", {"shortcut": None}, "shortcut is None, but must be like 'A'"),
        ("mlp", {"hidden": 64}, r"hidden is 64, but must be like \(256, 128\)"),
    ],
)
def test_an_option_of_another_kind_is_refused_by_name(name, options, message):
    with pytest.raises(RequestError, match=message):
        models.create(name, **options)
