"""Weight files: named arrays in safetensors, npz, or what torch.save writes.

Reading never runs what a file says: npz without pickles, and PyTorch's files through `torch.load(weights_only=True)`,
which builds tensors and nothing else.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend
from minires.errors import RequestError

FORMATS = {
    ".safetensors": "safetensors, the format of minires' own checkpoints",
    ".npz": "NumPy's archive",
    ".pt": "PyTorch, with torch installed",
    ".pth": "PyTorch, with torch installed",
    ".th": "PyTorch, with torch installed",
    ".bin": "PyTorch, with torch installed",
}
INSIDE = ("state_dict", "model_state_dict", "model", "net")  # under which a training script's checkpoint keeps weights
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
SAFE_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
INSTALL_TORCH = "pip install 'minires[torch]'"


def formats() -> dict[str, str]:
    """What `read_weights` and `write_weights` take: {suffix: what it is}."""
    return dict(FORMATS)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(named arrays, what minires wrote about them) of a weight file; only its own safetensors say anything.

    Of a PyTorch checkpoint it takes the state dict inside, and it drops the `module.` that DataParallel puts before
    every name. bfloat16, which NumPy does not have, comes as float32; half precision stays as it is.

    Raises RequestError when the file is missing, damaged or of another kind, when it holds anything beside tensors
    and plain values, or when torch is needed and not installed.
    """
    if not path.exists():
        raise RequestError(f"{path} does not exist; give a run directory or a weight file")
    if path.suffix not in FORMATS:
        raise RequestError(f"{path} is not a weight file that minires reads: {_either(FORMATS)}")
    reader = {".safetensors": _read_safetensors, ".npz": _read_npz}.get(path.suffix, _read_torch)
    arrays, about = reader(path)
    return arrays if about else _unwrapped(arrays), about


def write_weights(path: Path, arrays: Mapping[str, Any], about: dict[str, Any] | None = None) -> None:
    """Writes named arrays (of any library), in the format of the suffix.

    about    what they are; only safetensors have room for it, in the file's own header

    Raises RequestError for an unknown suffix, or when torch is needed and not installed.
    """
    if path.suffix not in FORMATS:
        raise RequestError(f"{path} does not say in which format to write; end it in {_either(FORMATS)}")
    # order="C", not ascontiguousarray, which would turn a scalar into one dimension
    host: dict[str, Any] = {name: np.asarray(backend.to_host(a), order="C") for name, a in arrays.items()}
    if path.suffix == ".safetensors":
        from safetensors.numpy import save as pack

        write_bytes(path, pack(host, metadata={"minires": json.dumps(about or {})}))
        return
    content = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(content, **host)
    else:
        torch = _torch(path)
        torch.save({name: torch.from_numpy(a.copy()) for name, a in host.items()}, content)
    write_bytes(path, content.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes and waits for the disk, so that a rename that follows never names an empty file."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# --- one reader a format


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, deserialize

    try:
        packed = path.read_bytes()
        found = dict(deserialize(packed))  # checks the header that is looked into next
        header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])
        about = header.pop("__metadata__", {})
        return {name: _of_safetensors(name, found[name]) for name in header}, json.loads(about.get("minires", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(path, error) from None


def _of_safetensors(name: str, entry: dict[str, Any]) -> np.ndarray:
    kind, data = entry["dtype"], entry["data"]
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    if kind not in SAFE_DTYPES:
        raise ValueError(f"{name} is of dtype {kind}, which NumPy does not have")
    return np.frombuffer(data, SAFE_DTYPES[kind]).reshape(entry["shape"])


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}, {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _read_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    torch = _torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's age, and of TorchScript, which is refused right below
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler at a file that is none fails in every way there is
        if "weights_only" in str(error) and ("GLOBAL" in str(error) or "TorchScript" in str(error)):
            raise RequestError(
                f"{path} holds more than tensors, and reading it would run code from the file; "
                "where you trust it, write its tensors alone: torch.save(model.state_dict(), 'weights.pt')"
            ) from None
        raise _damaged(path, error) from None
    return {name: _of_torch(tensor) for name, tensor in _state_dict(torch, held, path).items()}, {}


def _state_dict(torch: Any, held: Any, path: Path) -> dict[str, Any]:
    """The tensors by name, wherever a checkpoint keeps them; numbers beside them (an epoch, a score) are left out."""
    if isinstance(held, dict):
        inside = [held[key] for key in INSIDE if isinstance(held.get(key), dict)]
        for place in (held, *inside):
            tensors = {name: value for name, value in place.items() if isinstance(value, torch.Tensor)}
            if tensors:
                return tensors
    what = f"the keys {', '.join(map(str, list(held)[:8]))}" if isinstance(held, dict) else f"a {type(held).__name__}"
    raise RequestError(
        f"{path} holds {what}, but no tensors by name; write it with torch.save(model.state_dict(), ...)"
    )


def _of_torch(tensor: Any) -> np.ndarray:
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16
        return tensor.float().numpy()


def _torch(path: Path) -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise RequestError(
            f"{path} is of PyTorch's format, for which minires needs torch: {INSTALL_TORCH}; "
            "or use .safetensors, which needs nothing more"
        ) from None


# --- small parts


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in WRAPPERS:
        if arrays and all(name.startswith(prefix) for name in arrays):
            return _unwrapped({name.removeprefix(prefix): a for name, a in arrays.items()})
    return arrays


def _damaged(path: Path, error: Exception) -> RequestError:
    what = " ".join(str(error).split()) or type(error).__name__
    return RequestError(f"{path} cannot be read ({what[:160]}); it may be cut short, so fetch or make it again")


def _either(suffixes: Mapping[str, str]) -> str:
    *most, last = suffixes
    return f"{', '.join(most)} or {last}"
