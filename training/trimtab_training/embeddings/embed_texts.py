"""Texts to a matrix of vectors, resumable: every batch is kept in a journal as it comes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.model.encoder_probe import PROBE_TEXTS, unpack_probe, vectors_agree
from trimtab_training.embeddings.encoders import Encoder, Role, with_prefix
from trimtab_training.embeddings.journal import Journal
from trimtab_training.errors import EncoderError
from trimtab_training.files import new_matrix

Progress = Callable[[str, int, int], None]
"""Called with what is embedded, how many texts are done, and how many there are."""

_AHEAD = 2  # batches a worker that may wait for the disk


def embed_texts(
    encoder: Encoder,
    role: Role,
    texts: Sequence[str],
    target: Path,
    kept: Path,
    progress: Progress,
) -> tuple[int, int]:
    """Embed texts into a matrix, by way of a journal.

    Args:
        encoder: Embeds what the journal lacks.
        role: ``query`` or ``document``: which prefix is put before the texts.
        texts: Any number of them; equal ones are embedded once.
        target: The ``.npy`` file, float32.
        kept: Folder of the journal.
        progress: Called after every batch.

    Returns:
        The matrix's shape.

    Raises:
        EncoderError: The encoder fails; what it gave so far is in the journal.
    """
    prefixed = with_prefix(encoder, role, texts)
    keys = [hashlib.sha256(text.encode()).digest() for text in prefixed]
    salt = hashlib.sha256(f"{encoder.fingerprint} {encoder.max_tokens}".encode()).hexdigest()[:16]
    journal = _open_journal(kept / f"{role}-{salt}.journal", encoder)
    missing = list(dict.fromkeys(key for key in keys if key not in journal.places))
    place_of = {key: place for place, key in enumerate(keys)}
    wanted = [prefixed[place_of[key]] for key in missing]
    what = "queries" if role == "query" else "documents"
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


def _open_journal(path: Path, encoder: Encoder) -> Journal:
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
    return _open_journal(path, encoder)


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
