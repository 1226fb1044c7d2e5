"""Weight exchange: files of every common kind, the key maps of other libraries, and ONNX."""

from minires.weights.exchange import convert, export, fill, load, peers, save
from minires.weights.files import formats, read_weights, write_weights
from minires.weights.onnx import export_onnx

__all__ = [
    "convert",
    "export",
    "export_onnx",
    "fill",
    "formats",
    "load",
    "peers",
    "read_weights",
    "save",
    "write_weights",
]
