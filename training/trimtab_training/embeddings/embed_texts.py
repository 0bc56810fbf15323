"""Texts to a matrix of vectors, resumable: every batch is kept in a journal as it comes."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.model.encoder_probe import PROBE_TEXTS, unpack_probe, vectors_agree
from trimtab_training.embeddings.encoders import Encoder, EndpointEncoder, Role, with_prefix
from trimtab_training.embeddings.journal import Journal
from trimtab_training.errors import EncoderError
from trimtab_training.files import new_matrix

Progress = Callable[[str, int, int], None]
"""Called with what is embedded, how many texts are done, and how many there are."""

Tell = Callable[[str], None]
"""Called with one sentence for the user."""

_NAMES: dict[Role, str] = {"query": "queries", "document": "documents"}
_AHEAD = 2  # batches a worker that may wait for the disk


def embed_texts(
    encoder: Encoder,
    role: Role,
    texts: Sequence[str],
    target: Path,
    journal: Journal,
    progress: Progress,
) -> tuple[int, int]:
    """Embed texts into a matrix, by way of a journal.

    Args:
        encoder: Embeds what the journal lacks.
        role: ``query`` or ``document``: which prefix is put before the texts.
        texts: Any number of them; equal ones are embedded once.
        target: The ``.npy`` file, float32.
        journal: As :func:`open_journal` gives it.
        progress: Called after every batch.

    Returns:
        The matrix's shape.

    Raises:
        EncoderError: The encoder fails; what it gave so far is in the journal.
    """
    prefixed = with_prefix(encoder, role, texts)
    keys = [_key_of(text) for text in prefixed]
    missing = list(dict.fromkeys(key for key in keys if key not in journal.places))
    place_of = {key: place for place, key in enumerate(keys)}
    wanted = [prefixed[place_of[key]] for key in missing]
    what = _NAMES[role]
    n_unique = len(set(keys))
    done = n_unique - len(missing)
    progress(what, done, n_unique)
    for places, vectors in _encode_all(encoder, wanted):
        _check_batch(vectors, [wanted[place] for place in places], encoder.name)
        journal.append([missing[place] for place in places], vectors)
        done += len(places)
        progress(what, done, n_unique)
    matrix = new_matrix(target, (len(texts), journal.dim))
    journal.fill(matrix, keys)
    matrix.flush()
    return len(texts), journal.dim


def open_journal(
    encoder: Encoder, role: Role, texts: Sequence[str], kept: Path, tell: Tell
) -> Journal:
    """Open the journal of an earlier run with the same encoder, or begin one; once in a run.

    A fingerprint does not tell all: not what stands around the weights, nor which model answers
    behind an endpoint. A probe tells the one; for the other, an endpoint is asked for one text
    again that the journal holds.

    Args:
        encoder: Gives the vectors.
        role: ``query`` or ``document``.
        texts: All that the run embeds in this role.
        kept: Folder of the journals.
        tell: Told where an endpoint gives other vectors than it gave.

    Raises:
        EncoderError: The endpoint fails.
    """
    salt = hashlib.sha256(f"{encoder.fingerprint} {encoder.max_tokens}".encode()).hexdigest()[:16]
    stem = kept / f"{role}-{salt}"
    if not isinstance(encoder, EndpointEncoder):
        return _open_probed(stem.with_suffix(".journal"), encoder)
    prefixed = {_key_of(text): text for text in with_prefix(encoder, role, texts)}
    others: set[bytes] = set()
    for path in sorted(kept.glob(f"{stem.name}*.journal"), reverse=True):
        journal = Journal(path)
        shared = journal.places.keys() & prefixed.keys()
        if shared and _gives_again(encoder, journal, prefixed, shared):
            return journal
        others |= shared
    if others:
        tell(
            f"an earlier run kept the vectors of {len(others)} {_NAMES[role]}, but {encoder.name} "
            "gives others now (another endpoint, or another model under the name): these texts are "
            "embedded again"
        )
    names = (stem.with_name(f"{stem.name}-{number:04}.journal") for number in count(1))
    return Journal(next(path for path in names if not path.exists()))


def _gives_again(
    encoder: Encoder, journal: Journal, texts: Mapping[bytes, str], shared: Collection[bytes]
) -> bool:
    """Ask again for the first of the texts in a journal: is it the same but for rounding?"""
    key = min(shared, key=journal.places.__getitem__)
    given = encoder.encode([texts[key]])
    _check_batch(given, [texts[key]], encoder.name)
    kept = np.empty((1, journal.dim), dtype=np.float32)
    journal.fill(kept, [key])
    return vectors_agree(kept, given)


def _open_probed(path: Path, encoder: Encoder) -> Journal:
    """Open the journal; one that was begun with another pooling or tokenizer is begun anew.

    The encoder's probe is among its records.
    """
    journal = Journal(path)
    if not encoder.probe:
        return journal
    probe = unpack_probe(encoder.probe)
    keys = [hashlib.sha256(f"probe {text}".encode()).digest() for text in PROBE_TEXTS]
    missing = [place for place, key in enumerate(keys) if key not in journal.places]
    if missing:
        journal.append([keys[place] for place in missing], probe[missing])
    kept = np.empty((len(keys), journal.dim), dtype=np.float32)
    journal.fill(kept, keys)
    if vectors_agree(kept, probe):
        return journal
    path.unlink()
    return _open_probed(path, encoder)


def _key_of(text: str) -> bytes:
    """Give the digest under which a journal keeps a text's vector."""
    return hashlib.sha256(text.encode()).digest()


def _check_batch(vectors: NDArray[np.float32], texts: Sequence[str], name: str) -> None:
    """Refuse vectors that nothing can be searched with, before they are kept."""
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] == 0:
        raise EncoderError(
            f"encoder {name} gave shape {vectors.shape} for {len(texts)} texts; expected (n, dim)"
        )
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not usable.all():
        first = texts[int(np.argmin(usable))]
        raise EncoderError(
            f"encoder {name} gave NaN, infinity or only zeros for {int((~usable).sum())} texts, "
            f"such as {first[:60]!r}; nothing of that batch was kept"
        )


def _encode_all(
    encoder: Encoder, texts: Sequence[str]
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Encode batches, several at once where the encoder allows, and yield each as it comes."""

    def encode(places: list[int]) -> tuple[list[int], NDArray[np.float32]]:
        return places, encoder.encode([texts[place] for place in places])

    if encoder.n_workers == 1:
        yield from map(encode, encoder.batches(texts))
        return
    with ThreadPoolExecutor(encoder.n_workers) as workers:
        running: set[Future[tuple[list[int], NDArray[np.float32]]]] = set()
        batches = encoder.batches(texts)
        failure: BaseException | None = None
        while True:
            while failure is None and len(running) < encoder.n_workers * _AHEAD:
                batch = next(batches, None)
                if batch is None:
                    break
                running.add(workers.submit(encode, batch))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                if future.exception() is not None:
                    failure = future.exception()  # what else is under way is paid: keep it
                else:
                    yield future.result()
        if failure is not None:
            raise failure
