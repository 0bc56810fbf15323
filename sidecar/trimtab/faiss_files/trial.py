"""A FAISS file tried in a process of its own, since some files end the process that reads them.

faiss throws inside OpenMP, which is fatal, follows the links of a damaged graph wherever they
lead, and maps what is not there. What has been opened, read and searched once in a child is safe
to open here.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.errors import ConfigError
from trimtab.faiss_files.index_file import IndexFile, can_read_lists, take_apart
from trimtab.faiss_files.reading import import_faiss, list_ways, read_file

_START = (
    "import json, sys; told = json.loads(sys.argv[1]); sys.path[:] = told['sys_path']; "
    "import faiss; faiss.omp_set_num_threads(1); "  # one query needs no more
    "from trimtab.faiss_files.trial import answer; answer(told['path'], told['flags'])"
)
_SAMPLE = 64
_NEAREST = 4


def choose_way(path: Path) -> int:
    """Find the flags that a file can be opened with, in a child process.

    Raises:
        ConfigError: There are none: it is no index, is damaged, or ends every process.
        MissingExtraError: faiss is not installed.
    """
    ended = ""
    for flags in list_ways(import_faiss()):
        child = _run(path, flags)
        found = _read_answer(child.stdout)
        if found is None:
            ended = _describe_end(child)
        elif "refused" in found:
            raise ConfigError(found["refused"])
        elif "failed" not in found:
            return flags
        else:
            ended = ended or str(found["failed"])
    raise ConfigError(
        f"{path} is damaged, or of a type that faiss can't read: a process that tried it {ended}; "
        "write the index anew"
    )


def _run(path: Path, flags: int) -> "subprocess.CompletedProcess[str]":
    """Start a child that tries a file in one way, and wait for its end."""
    told = {"sys_path": sys.path, "path": str(path), "flags": flags}
    command = [os.fsdecode(spawn.get_executable()), "-c", _START, json.dumps(told)]
    return subprocess.run(  # noqa: S603  # our own code, in the interpreter that runs already
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _read_answer(text: str) -> dict[str, Any] | None:
    """Read the child's last line, behind whatever faiss itself may have written."""
    try:
        found = json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _describe_end(child: "subprocess.CompletedProcess[str]") -> str:
    """Say in a few words how a child has ended."""
    if child.returncode < 0:
        return f"was ended by {signal.Signals(-child.returncode).name}"
    said = child.stderr.strip().splitlines()
    return f"ended with {child.returncode}: {said[-1][:200] if said else 'no message'}"


def answer(path: str, flags: int) -> None:
    """Try a file in this process, and write on stdout how that went."""
    try:
        try_file(Path(path), flags)
        found = {}
    except ConfigError as error:
        found = {"refused": str(error)}
    except Exception as error:  # whatever a library raises is the outcome
        line = " ".join(str(error).split())[-200:]
        found = {"failed": f"failed with {type(error).__name__}: {line}"}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def try_file(path: Path, flags: int) -> None:
    """Open a file, check its links, read some of its vectors and search for them.

    Raises:
        ConfigError: It can't be read right.
    """
    faiss = import_faiss()
    file = take_apart(read_file(path, flags), path)
    _check_graph(faiss, file, path)
    if not file.core.ntotal:
        return
    for use in (_search_all, _read_sample):
        with suppress(RuntimeError):  # what it can't do it says wherever it is asked for
            use(faiss, file)


def _search_all(_: Any, file: IndexFile) -> None:
    """Search as a user would, through id maps and transforms."""
    queries = np.zeros((1, int(file.owner.d)), np.float32)
    file.owner.search(queries, min(_NEAREST, len(file)))


def _read_sample(faiss: Any, file: IndexFile) -> None:
    """Read some vectors, and search for them."""
    core = file.core
    if not isinstance(core, faiss.IndexIVF):
        rows = np.linspace(0, core.ntotal - 1, _SAMPLE).astype(np.int64)
        core.search(core.reconstruct_batch(np.unique(rows)), 1)
    elif can_read_lists(core):
        _read_ends(faiss, core)


def _read_ends(faiss: Any, core: Any) -> None:
    """Read the first and the last vector of some lists, and search for them."""
    vector = np.zeros(core.d, np.float32)
    for number in np.unique(np.linspace(0, core.nlist - 1, _SAMPLE).astype(int)).tolist():
        if size := core.invlists.list_size(number):
            for place in (0, size - 1):
                core.reconstruct_from_offset(number, place, faiss.swig_ptr(vector))
                core.search(vector[None], 1)


def _check_graph(faiss: Any, file: IndexFile, path: Path) -> None:
    """Refuse a graph whose links lead to vectors that are not there."""
    core = file.core
    while isinstance(core, faiss.IndexRefine):
        core = faiss.downcast_index(core.base_index)
    links: Any = None
    if isinstance(core, faiss.IndexHNSW) and core.ntotal:
        neighbours = core.hnsw.neighbors
        links = faiss.rev_swig_ptr(neighbours.data(), neighbours.size())
        if not 0 <= core.hnsw.entry_point < core.ntotal:
            raise ConfigError(f"{path}: its graph begins at a vector that is not there")
        if int(core.hnsw.offsets.at(int(core.ntotal))) != neighbours.size():
            raise ConfigError(f"{path}: its graph has more or fewer links than its vectors")
    elif isinstance(core, faiss.IndexNSG) and core.ntotal:
        graph = core.nsg.get_final_graph()
        links = faiss.rev_swig_ptr(graph.data, graph.N * graph.K)
    if links is not None and links.size and not -1 <= links.min() <= links.max() < core.ntotal:
        raise ConfigError(f"{path}: its graph has links to vectors that are not there")
