"""Weight files come back as they were written, whoever wrote them, and nothing in them is ever run."""

import json
import os
import pickle
import sys

import numpy as np
import pytest

from minires.errors import RequestError
from minires.weights.files import formats, read_weights, write_weights

rng = np.random.default_rng(5)


def arrays():
    return {
        "conv.weight": rng.standard_normal((3, 2, 2)).astype(np.float32).T,  # not contiguous
        "half": rng.standard_normal(3).astype(np.float16),
        "double": rng.standard_normal((2, 1)),
        "count": np.array(7),
        "empty": np.zeros((0, 4), np.float32),
        "mask": np.array([True, False]),
    }


@pytest.mark.parametrize("suffix", sorted(formats()))
def test_what_is_written_is_read_back(tmp_path, suffix):
    if suffix not in (".safetensors", ".npz"):
        pytest.importorskip("torch")
    path, written = tmp_path / f"w{suffix}", arrays()
    write_weights(path, written)
    read, about = read_weights(path)
    assert about == {}
    assert set(read) == set(written)
    for name, a in written.items():
        assert read[name].dtype == a.dtype, name
        assert np.array_equal(read[name], a), name
        assert read[name].shape == a.shape, name


def test_safetensors_say_what_they_are_of(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"module.w": np.ones(3)}, {"model": "resnet8"})
    read, about = read_weights(tmp_path / "w.safetensors")
    assert about == {"model": "resnet8"}
    assert list(read) == ["module.w"]  # its own name: minires wrote it, and wraps nothing


def test_files_are_those_of_the_other_libraries(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    written = {"w": rng.standard_normal((2, 3)).astype(np.float32), "n": np.array(3)}
    write_weights(tmp_path / "w.pt", written)
    write_weights(tmp_path / "w.safetensors", written)
    for read in (torch.load(tmp_path / "w.pt", weights_only=True), safetensors.load_file(tmp_path / "w.safetensors")):
        assert set(read) == set(written)
        assert all(np.array_equal(read[k].numpy(), v) and read[k].numpy().dtype == v.dtype for k, v in written.items())


def test_bfloat16_comes_as_float32_without_a_change_of_value(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    state = {"w": torch.tensor(rng.standard_normal((4, 5))).to(torch.bfloat16), "s": torch.tensor(-0.0).bfloat16()}
    torch.save(state, tmp_path / "w.pt")
    safetensors.save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        read, _ = read_weights(tmp_path / name)
        for key, tensor in state.items():
            assert read[key].dtype == np.float32
            assert read[key].tobytes() == tensor.float().numpy().tobytes()


def test_a_dtype_that_numpy_lacks_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"layer.w": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(RequestError, match=r"layer\.w is of dtype F8_E4M3, which NumPy does not have"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_training_scripts_checkpoint_is_unwrapped(tmp_path, key, prefix):
    torch = pytest.importorskip("torch")
    w = rng.standard_normal((2, 2))
    state = {f"{prefix}w": torch.tensor(w), f"{prefix}module.b": torch.tensor([1.0])}
    torch.save({key: state, "best_prec1": 91.7, "epoch": 3} if key else state, tmp_path / "w.th")
    read, _ = read_weights(tmp_path / "w.th")
    assert set(read) == {"w", "module.b"}
    assert np.array_equal(read["w"], w)


# --- bad files ------------------------------------------------------------------------------------


def refused(path, *said):
    with pytest.raises(RequestError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for part in (path.name, *said):
        assert part in message


@pytest.mark.parametrize("suffix", sorted(formats()))
@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80not weights at all", b"PK\x03\x04 no archive"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, suffix, content):
    if suffix not in (".safetensors", ".npz"):
        pytest.importorskip("torch")
    (tmp_path / f"w{suffix}").write_bytes(content)
    refused(tmp_path / f"w{suffix}", "cannot be read")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, suffix, share):
    if suffix == ".pt":
        pytest.importorskip("torch")
    path = tmp_path / f"w{suffix}"
    write_weights(path, {"w": rng.standard_normal(1000)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "cut short")


class Trap:
    """What a hostile file holds: unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_holds_code_is_refused_and_not_run(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    held = {"state_dict": {"w": torch.ones(2), "x": Trap(tmp_path / "sprung")}}
    torch.save(held, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "w.pt", "would run code", "torch.save(model.state_dict()")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(held["state_dict"]["x"], protocol=2))
    refused(tmp_path / "plain.pt", "would run code")
    np.savez(tmp_path / "w.npz", w=np.array([Trap(tmp_path / "sprung")], dtype=object))
    refused(tmp_path / "w.npz")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # so the trap does spring


def test_whole_models_and_other_things_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "would run code")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds a list, but no tensors by name")
    torch.save({"epoch": 3, "state_dict": {"lr": 0.1}}, tmp_path / "none.pt")
    refused(tmp_path / "none.pt", "holds the keys epoch, state_dict, but no tensors by name")


def test_without_torch_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "w.th").write_bytes(b"whatever")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(tmp_path / "w.th", "needs torch: pip install 'minires[torch]'")
    with pytest.raises(RequestError, match=r"out\.pt .* pip install 'minires\[torch\]'"):
        write_weights(tmp_path / "out.pt", arrays())
    assert not (tmp_path / "out.pt").exists()


def test_a_wrong_or_missing_name_is_refused(tmp_path):
    refused(tmp_path / "none.pt", "does not exist")
    (tmp_path / "notes.txt").write_text("not weights")
    refused(tmp_path / "notes.txt", "is not a weight file that minires reads: .safetensors, .npz")
    with pytest.raises(RequestError, match=r"w\.h5 does not say in which format to write; end it in .safetensors"):
        write_weights(tmp_path / "w.h5", arrays())


def test_a_safetensors_header_that_says_nonsense_of_minires_is_refused(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"w": np.ones(2)}, {"model": "mlp"})
    packed = (tmp_path / "w.safetensors").read_bytes()
    nonsense = json.dumps({"model": "mlp"}).replace('"', '\\"').encode()
    assert nonsense in packed
    (tmp_path / "w.safetensors").write_bytes(packed.replace(nonsense, b"{" * len(nonsense)))
    refused(tmp_path / "w.safetensors")
