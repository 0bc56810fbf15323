"""One transform, one query, one thread: ours against numpy's product and a torch module.

All contenders take turns in blocks within one run, so that whatever else the machine does hits all
of them. Every time is that of one call with the checks that it makes; outputs are compared first.

- numpy: ``query @ weight`` alone, no bias, no check: what one pass over the weights costs.
- ours: ``Adapter.transform`` of a linear adapter on a float32 array, and list to list.
- ours, default fit: the same of a composed adapter of the sizes that ``trimtab fit`` without knobs
  makes: its linear part whole, and at the lower of the ranks that the fit tries (128 at 384 dims,
  256 above); its values are random, which no time depends on. The whole one also as float32.
- torch arrays: ``torch.nn.Linear`` and normalisation under ``inference_mode``, array to array.
- torch lists: as llama-index-embeddings-adapter calls its adapter: ``torch.tensor(list)``, the
  module with gradients on, ``tolist()``.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from benchmarks.record import write_results
from benchmarks.served_models import default_adapter, exported, linear_adapter, low_rank
from trimtab.model.adapter import Adapter
from trimtab_training.export.onnx_export import ROUNDING

DIMS = (384, 768, 1024, 1536, 3072)
ROUNDS = 40
WARM_UP = 50


def contenders(dim: int) -> tuple[dict[str, float], dict[str, Callable[[], object]]]:
    rng = np.random.default_rng(dim)
    adapter = linear_adapter(dim)
    served = Adapter.from_bytes(exported(adapter))
    default = default_adapter(dim)
    rounded, plain = exported(default), exported(default, "float32")
    narrow = exported(default_adapter(dim, low_rank(dim)))
    narrow_served = Adapter.from_bytes(narrow)
    default_served, plain_served = Adapter.from_bytes(rounded), Adapter.from_bytes(plain)
    weight = (np.eye(dim) + adapter.difference.detach().numpy()).astype(np.float32)
    linear = torch.nn.Linear(dim, dim)
    linear.weight.data = torch.from_numpy(weight.T.copy())
    linear.bias.data.zero_()
    query = rng.standard_normal(dim).astype(np.float32)
    query /= np.linalg.norm(query)
    as_list = query.tolist()

    def torch_arrays() -> np.ndarray:
        with torch.inference_mode():
            return torch.nn.functional.normalize(linear(torch.from_numpy(query)), dim=0).numpy()

    def torch_lists() -> list[float]:
        return linear(torch.tensor(as_list)).tolist()

    wanted = torch_arrays()
    np.testing.assert_allclose(served.transform(query), wanted, atol=1e-5)
    np.testing.assert_allclose(np.array(torch_lists()), query @ weight, atol=1e-4)
    np.testing.assert_array_less(
        np.linalg.norm(default_served.transform(query) - plain_served.transform(query)), ROUNDING
    )
    files = {"8-bit": rounded, "8-bit, narrow": narrow, "float32": plain}
    megabytes = {name: round(len(content) / 1e6, 2) for name, content in files.items()}
    return megabytes, {
        "numpy": lambda: query @ weight,
        "ours": lambda: served.transform(query),
        "ours, default fit": lambda: default_served.transform(query),
        "ours, default fit, narrow": lambda: narrow_served.transform(query),
        "ours, default fit in float32": lambda: plain_served.transform(query),
        "ours lists": lambda: served.transform(as_list).tolist(),
        "torch arrays": torch_arrays,
        "torch lists": torch_lists,
    }


def measure(dim: int) -> dict[str, object]:
    megabytes, calls = contenders(dim)
    times: dict[str, list[int]] = {name: [] for name in calls}
    per_block = max(10, 60_000 // dim)
    for turn in range(ROUNDS):
        order = list(calls)[turn % len(calls) :] + list(calls)[: turn % len(calls)]
        for name in order:
            call = calls[name]
            for _ in range(WARM_UP if turn == 0 else 5):
                call()
            for _ in range(per_block):
                started = time.perf_counter_ns()
                call()
                times[name].append(time.perf_counter_ns() - started)
    microseconds = {
        name: {
            f"p{level}": round(float(np.percentile(values, level)) / 1000, 2)
            for level in (50, 95, 99)
        }
        for name, values in times.items()
    }
    middle = {name: values["p50"] for name, values in microseconds.items()}
    return {
        "n": ROUNDS * per_block,
        "default fit's file, MB": megabytes,
        "microseconds": microseconds,
        "ours / numpy": round(middle["ours"] / middle["numpy"], 2),
        "ours, default fit / numpy": round(middle["ours, default fit"] / middle["numpy"], 2),
        "ours, default fit, narrow / numpy": round(
            middle["ours, default fit, narrow"] / middle["numpy"], 2
        ),
        "ours, default fit in float32 / numpy": round(
            middle["ours, default fit in float32"] / middle["numpy"], 2
        ),
        "torch arrays / ours": round(middle["torch arrays"] / middle["ours"], 2),
        "torch lists / ours": round(middle["torch lists"] / middle["ours"], 2),
        "torch lists / ours lists": round(middle["torch lists"] / middle["ours lists"], 2),
    }


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    for dim in DIMS:
        results[str(dim)] = found = measure(dim)
        p50 = {name: times["p50"] for name, times in found["microseconds"].items()}
        ratios = {name: value for name, value in found.items() if "/" in name}
        print(dim, p50, ratios, flush=True)
    path = write_results(Path(__file__).parent, {"warm_up": WARM_UP, "dims": results})
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
