"""The peers can be used where they are installed, in either order."""

import subprocess
import sys

import pytest

from tests import peers


def test_peers_import_in_either_order():
    for peer in (peers.torchvision, peers.timm, peers.transformers):
        peer()  # skips where it is missing
    script = """
import warnings
warnings.simplefilter("error")
from tests import peers
for name in ["transformers", "timm", "torchvision"]:
    getattr(peers, name)()
peers.transformers().GPT2LMHeadModel, peers.transformers().BertForMaskedLM
print(sum(p.numel() for p in peers.torchvision().models.resnet18(weights=None).parameters()))
print("legacy_seresnet18" in peers.timm().list_models("*seresnet*"))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["11689512", "True"]


def test_a_peer_that_is_not_installed_skips_the_test_and_says_why():
    with pytest.raises(pytest.skip.Exception, match="nonesuch is not installed; it is a library that nobody has"):
        peers._imported("nonesuch", "a library that nobody has")
