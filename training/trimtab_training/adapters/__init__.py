"""Adapters: one learned query-side map a file, each starting where it changes nothing."""

from trimtab_training.adapters.base import Adapter
from trimtab_training.adapters.composed import ComposedAdapter, Gate
from trimtab_training.adapters.identity import IdentityAdapter
from trimtab_training.adapters.linear import LinearAdapter
from trimtab_training.adapters.low_rank import LowRankAdapter
from trimtab_training.adapters.registry import adapter_class, kind_of, load_adapter, save_adapter
from trimtab_training.adapters.two_layer import TwoLayerAdapter

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
