"""The adapter at search time: a checked model file, run by ONNX Runtime on query vectors.

The hot path of the whole product. One query costs one pass over the weights plus a few
microseconds: buffers of one row are bound to the session once per thread and reused.
"""

import hashlib
import logging
import threading
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import ConfigError, IntegrityError, ManifestError, QueryError
from trimtab.model.encoder_probe import OTHER_VECTORS, probes_agree
from trimtab.model.followed import Followed
from trimtab.model.manifest import Manifest
from trimtab.model.onnx_file import (
    INPUT_NAME,
    OUTPUT_NAME,
    ModelFile,
    check_model,
    naming_file,
    read_content,
    read_model_file,
    resolve_model_path,
)
from trimtab.model.query_region import Region
from trimtab.model.session import make_session, one_line
from trimtab.vectors import as_floats, check_dim, check_finite

if TYPE_CHECKING:
    from trimtab.model.second_look import SecondLook

logger = logging.getLogger(__name__)

LARGEST_SQUARE = 1e18
"""Square length up to which a query is surely finite, and can be normalised in float32 even behind
weights that make it 1e10 times as long."""

_PROBES = 3
WATCH_INTERVAL_S = 5.0
"""Seconds between two looks at a model that is watched."""
_OF_ONE_PROCESS = ("_session", "_rows", "second_look")


class Adapter:
    """A trained query-side map, ready to use from any number of threads.

    Make one with :meth:`load`, :meth:`from_bytes` or, to follow newer models, :meth:`watch`. It can
    be copied and pickled; the model's bytes travel.

    Attributes:
        manifest: What the model says about itself.
        version: First 12 hex digits of the file's SHA-256.
        region: Where the training queries lie, for a model whose file says so.
        mark: ``NAME@VERSION`` in ASCII, which a request that was adapted carries.

    Example:
        >>> adapter = Adapter.load("models/docs")  # doctest: +SKIP
        >>> adapter.transform(query)  # doctest: +SKIP
    """

    def __init__(self, model: ModelFile) -> None:
        """Make a session from a checked file; callers use :meth:`load`."""
        self._content = model.content
        self.manifest: Manifest = model.manifest
        self.version: str = hashlib.sha256(model.content).hexdigest()[:12]
        self.mark: str = f"{quote(self.manifest.name, safe='/ ')}@{self.version}"
        self.region: Region | None = Region.from_manifest(model.manifest)
        self._dim_in = model.manifest.dim_in
        self._prepare()
        self._check_answers()

    def _prepare(self) -> None:
        """Make what belongs to one process."""
        self._session = make_session(self._content)  # which keeps these bytes, too
        self._rows = threading.local()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model file, or the ``adapter.onnx`` in a folder.

        Raises:
            ModelError: There is no such file, or it can't be read.
            IntegrityError: The file is damaged, oversized, or holds what an adapter never needs.
            ManifestError: The manifest is missing, from a newer schema, or at odds with the graph.
        """
        file = resolve_model_path(path)
        with naming_file(file):
            adapter = cls(read_model_file(file))
        logger.info(
            "adapter loaded",
            extra={"adapter": adapter.manifest.name, "version": adapter.version},
        )
        return adapter

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Load a model from memory, bytes of any kind, with the same checks as :meth:`load`."""
        return cls(check_model(bytes(content)))

    @classmethod
    def watch(cls, path: str | Path, *, interval_s: float = WATCH_INTERVAL_S) -> "WatchedAdapter":
        """Load a model, and a newer one whenever the file, or its folder, is replaced.

        A newer file is checked first and then put in force whole. One that can't be used, or that
        does not fit in the place of the one in force, changes nothing: it is logged and counted.

        Args:
            path: The model file, or its folder.
            interval_s: Seconds between two looks at it, in a thread of its own.

        Raises:
            ConfigError: The interval is no positive number.
            ModelError: There is no such file now, or it can't be used.
        """
        find = partial(resolve_model_path, Path(path))
        followed = Followed(find, partial(_read_newer, cls), interval_s=interval_s)
        return WatchedAdapter(followed)

    @property
    def current(self) -> "Adapter":
        """The adapter in force, which never changes: take it where several reads must agree."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, or into a copy, as the model's bytes."""
        state: Any = super().__getstate__()
        own, slots = state if isinstance(state, tuple) else (state, {})  # a subclass may have slots
        kept = {name: value for name, value in own.items() if name not in _OF_ONE_PROCESS}
        return {**kept, **slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the session again."""
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._prepare()

    @property
    def dim_in(self) -> int:
        """Values that a query vector must have."""
        return self._dim_in

    @property
    def dim_out(self) -> int:
        """Values that an adapted query has."""
        return self.manifest.dim_out

    @cached_property
    def second_look(self) -> "SecondLook | None":
        """What scores the best documents anew, where the file holds it; unpacked when first read.

        Raises:
            ModelError: It is damaged.
        """
        from trimtab.model.second_look import SecondLook, SecondLookRecord  # which few need

        text = check_model(self._content).second_look
        return None if text is None else SecondLook(SecondLookRecord.from_json(text), self)

    def transform(self, queries: ArrayLike) -> NDArray[np.float32]:
        """Adapt one query vector or a batch.

        Args:
            queries: Shape ``(dim_in,)`` or ``(n, dim_in)``; an array of any float dtype or lists
                of numbers.

        Returns:
            Adapted queries, float32, shape ``(dim_out,)`` or ``(n, dim_out)``: the same rank as
            the input, in memory of their own.

        Raises:
            QueryError: Not numbers, empty, ragged, or of another rank.
            DimensionError: A row does not have ``dim_in`` values.
            NonFiniteError: NaN or infinity among the values.
        """
        floats = as_floats(queries)
        check_dim(floats.shape[-1], self._dim_in)
        if floats.ndim == 1:
            return self._transform_row(floats)
        if len(floats) == 1:
            return self._transform_row(floats[0]).reshape(1, -1)
        rows = np.ascontiguousarray(floats)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("nd,nd->n", rows, rows)
        if not (squares < LARGEST_SQUARE).all():
            self._check_large(rows)
        return self._run(rows)

    __call__ = transform

    def _transform_row(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Adapt one row through buffers that stay bound to the session."""
        try:
            row: _BoundRow = self._rows.bound
        except AttributeError:
            row = self._rows.bound = _BoundRow(self._session, self._dim_in, self.dim_out)
        # A square length is finite only where every value is: one product checks them all.
        if not row.fill(query) < LARGEST_SQUARE:
            self._check_large(query)
        return row.run()

    def _check_large(self, queries: NDArray[np.float32]) -> None:
        """Refuse what is not finite, and what is too long for the graph to normalise."""
        check_finite(queries)
        if self.manifest.normalised:
            length = float(np.linalg.norm(np.atleast_2d(queries).astype(np.float64), axis=1).max())
            raise QueryError(
                f"query has length {length:.3g}, too long to normalise in float32; scale it down"
            )

    def _run(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Adapt a batch of rows."""
        adapted: NDArray[np.float32] = self._session.run([OUTPUT_NAME], {INPUT_NAME: queries})[0]
        return adapted

    def _check_answers(self) -> None:
        """Run the graph on a few vectors, and hold the answers against the manifest."""
        values = np.arange(_PROBES * self._dim_in, dtype=np.float64).reshape(_PROBES, -1)
        probe = (np.cos(values) / np.sqrt(self._dim_in / 2)).astype(np.float32)
        try:
            adapted = self._run(probe)
            single = np.concatenate([self._run(row[None]) for row in probe])
        except Exception as error:  # ONNX Runtime raises its own types, without a common base
            raise IntegrityError(f"the model's graph can't be run: {one_line(error)}") from error
        if adapted.shape != (_PROBES, self.dim_out) or single.shape != adapted.shape:
            raise ManifestError(
                f"the graph answers with shape {adapted.shape}, "
                f"the manifest says ({_PROBES}, {self.dim_out}); export the model again"
            )
        if not np.isfinite(adapted).all():
            raise IntegrityError("the graph answers a plain query with NaN or infinity")
        size = np.maximum(1.0, np.linalg.norm(adapted, axis=1, keepdims=True))
        if np.abs(adapted - single).max() > 1e-3 * size.max():
            raise IntegrityError("the graph mixes the rows of a batch; a query must stand alone")
        if self.manifest.normalised and not np.allclose(
            np.linalg.norm(adapted, axis=1), 1.0, atol=1e-3
        ):
            raise ManifestError(
                "the manifest says that adapted queries have unit length, the graph gives "
                f"{np.linalg.norm(adapted[0]):.4g}; export the model again"
            )


class WatchedAdapter(Adapter):
    """An adapter that follows its file; made by :meth:`Adapter.watch`.

    Whatever is read of it is the adapter in force; :attr:`current` is that adapter itself.
    """

    def __init__(self, followed: Followed[Adapter]) -> None:
        """Take what follows the file, and let it begin."""
        self._followed = followed
        followed.stay_awake()

    @property
    def current(self) -> Adapter:
        """The adapter in force, which never changes: take it where several reads must agree."""
        self._followed.stay_awake()  # a forked process has none of the threads
        return self._followed.current

    @property
    def second_look(self) -> "SecondLook | None":
        """That of the adapter in force; see :attr:`Adapter.second_look`."""
        return self.current.second_look

    @property
    def n_reloads(self) -> int:
        """How often a newer model came into force."""
        return self._followed.n_changes

    @property
    def n_failures(self) -> int:
        """How many looks at the file have failed."""
        return self._followed.n_failures

    @property
    def last_error(self) -> str | None:
        """Why the last look failed; None where it succeeded."""
        return self._followed.last_error

    def transform(self, queries: ArrayLike) -> NDArray[np.float32]:
        """Adapt with the adapter in force; see :meth:`Adapter.transform`."""
        return self.current.transform(queries)

    __call__ = transform

    def reload(self) -> bool:
        """Look at the file now, without waiting; never raises.

        Returns:
            True where a newer model came into force; see :attr:`last_error` otherwise.
        """
        return self._followed.look()

    def close(self) -> None:
        """Look no more; the adapter in force serves on."""
        self._followed.close()

    def __getattr__(self, name: str) -> Any:
        """Give the attribute of the adapter in force."""
        if name == "_followed":  # not set yet: while copying or unpickling
            raise AttributeError(name)
        return getattr(self._followed.current, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive; the adapter in force has come along."""
        self.__dict__.update(state)


def _read_newer(kind: type[Adapter], file: Path, current: Adapter | None) -> Adapter:
    """Read a model in the place of another one; give that one where the bytes are its own.

    Raises:
        ModelError: The file can't be used.
        ConfigError: The new model does not fit where the other one stands.
    """
    content = read_content(file)
    if current is not None and content == current._content:
        return current
    newer = kind.from_bytes(content)
    _ = newer.second_look  # checked now, not by the first search that wants it
    if current is not None:
        check_successor(current, newer)
    return newer


def check_successor(current: Adapter, newer: Adapter) -> None:
    """Refuse a model that can't stand between the same encoder and the same index as another.

    Raises:
        ConfigError: Widths, kind of use or encoder differ.
    """
    old, new = current.manifest, newer.manifest
    for what, one, other in (
        ("values a query", old.dim_in, new.dim_in),
        ("values an adapted query", old.dim_out, new.dim_out),
        ("kind of use", old.use, new.use),
        ("encoder", old.encoder.fingerprint, new.encoder.fingerprint),
    ):
        if one != other and one and other:  # an empty fingerprint is not known
            raise ConfigError(
                f"model {newer.mark} can't take the place of {current.mark}: {what} {one} and "
                f"{other}; expected the same; make a new adapter, and restart what uses it"
            )
    if not probes_agree(old.encoder.probe, new.encoder.probe):
        raise ConfigError(
            f"model {newer.mark} can't take the place of {current.mark}: their encoders have "
            f"{OTHER_VECTORS}; make a new adapter, and restart what uses it"
        )


class _BoundRow:
    """One thread's input and output row, bound to the session once."""

    def __init__(self, session: Any, dim_in: int, dim_out: int) -> None:
        """Bind two rows of memory, which live as long as this object."""
        self._input = np.zeros((1, dim_in), dtype=np.float32)
        self._output = np.zeros((1, dim_out), dtype=np.float32)
        self._input_row, self._output_row = self._input[0], self._output[0]
        self._binding = session.io_binding()
        self._binding.bind_input(
            INPUT_NAME, "cpu", 0, np.float32, self._input.shape, self._input.ctypes.data
        )
        self._binding.bind_output(
            OUTPUT_NAME, "cpu", 0, np.float32, self._output.shape, self._output.ctypes.data
        )
        self._run = session.run_with_iobinding

    def fill(self, query: NDArray[np.float32]) -> float:
        """Take a query in; give its square length."""
        row = self._input_row
        row[:] = query
        return float(np.vdot(row, row))  # unlike dot, it overflows without a warning

    def run(self) -> NDArray[np.float32]:
        """Adapt the row that was filled; the answer is a copy that the caller owns."""
        self._run(self._binding)
        adapted: NDArray[np.float32] = self._output_row.copy()
        return adapted
