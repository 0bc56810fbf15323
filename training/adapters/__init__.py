"""Adapters: one learned query-side map a file, each starting where it changes nothing."""

from training.adapters.base import Adapter
from training.adapters.composed import ComposedAdapter, Gate
from training.adapters.identity import IdentityAdapter
from training.adapters.linear import LinearAdapter
from training.adapters.low_rank import LowRankAdapter
from training.adapters.registry import adapter_class, kind_of, load_adapter, save_adapter
from training.adapters.two_layer import TwoLayerAdapter

__all__ = [
    "Adapter",
    "ComposedAdapter",
    "Gate",
    "IdentityAdapter",
    "LinearAdapter",
    "LowRankAdapter",
    "TwoLayerAdapter",
    "adapter_class",
    "kind_of",
    "load_adapter",
    "save_adapter",
]
