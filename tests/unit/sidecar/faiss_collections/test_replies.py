"""Without orjson, what to install is said where the package is imported."""

import importlib.util
import sys

import pytest

from trimtab.errors import MissingExtraError
from trimtab.faiss_collections import replies


def test_without_orjson_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    spec = importlib.util.spec_from_file_location("replies_without_orjson", replies.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(MissingExtraError, match=r"pip install 'trimtab\[server\]'"):
        spec.loader.exec_module(module)
