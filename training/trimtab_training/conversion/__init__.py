"""Adapters that exist already, made into models: LlamaIndex's folders, and bare matrices."""

from trimtab_training.conversion.llama_index import read_llama_index
from trimtab_training.conversion.matrix import MatrixNames, read_matrix
from trimtab_training.conversion.model import (
    ConvertedModel,
    Target,
    convert_adapter,
    write_converted,
)
from trimtab_training.conversion.source import Source

__all__ = [
    "ConvertedModel",
    "MatrixNames",
    "Source",
    "Target",
    "convert_adapter",
    "read_llama_index",
    "read_matrix",
    "write_converted",
]
