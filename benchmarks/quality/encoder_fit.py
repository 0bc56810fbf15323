"""The whole MiniLM as something to train: its texts, its loss, and a fit kept epoch by epoch."""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.scoring import Task
from trimtab_training.data.qrels import Qrels, relevant
from trimtab_training.embeddings.local_encoder import packaged_minilm

BATCH_SIZE = 64
CHUNK = 8  # texts of like length that pass through the model together: less padding, same loss
TEMPERATURE = 0.05
WARM_UP = 0.1
WEIGHT_DECAY = 0.01
PATIENCE = 2
TOKENS_AT_ONCE = 4096
SEED = 0


@dataclass(frozen=True)
class Texts:
    """Token ids of every query and document of a set, as far as its encoder reads."""

    queries: dict[str, list[int]]
    documents: dict[str, list[int]]


@dataclass(frozen=True)
class Setting:
    """What one run trains with."""

    rate: float
    epochs: int
    precision: str

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.rate:g}-{self.epochs}-{self.precision}"

    @classmethod
    def named(cls, name: str) -> "Setting":
        """Read a folder's name."""
        rate, epochs, precision = name.replace("e-", "e_").split("-")
        return cls(float(rate.replace("e_", "e-")), int(epochs), precision)


class Encoder:
    """MiniLM as a torch module from token ids to unit vectors."""

    def __init__(self) -> None:
        model = packaged_minilm()._model
        self.tokenizer = model.tokenizer
        self.body = model[0].auto_model
        self.precision = "float32"

    def tokenize(self, texts: list[str], limit: int) -> list[list[int]]:
        """Cut texts into at most so many tokens, special ones included."""
        return self.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]

    def embed(self, tokens: list[list[int]], n_at_once: int = CHUNK) -> Tensor:
        """Embed texts in pieces of like length: shape ``(texts, dim)``, in their order."""
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        parts = [
            self._forward([tokens[place] for place in order[start : start + n_at_once]])
            for start in range(0, len(order), n_at_once)
        ]
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(parts)[back]

    def embed_all(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        """Embed many texts without gradients, a few thousand tokens at once."""
        self.body.eval()
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        vectors = np.empty((len(tokens), self.body.config.hidden_size), np.float32)
        with torch.inference_mode():
            while order:
                n_texts = max(1, TOKENS_AT_ONCE // len(tokens[order[0]]))
                part, order = order[:n_texts], order[n_texts:]
                vectors[part] = self._forward([tokens[place] for place in part]).numpy()
        return vectors

    def _forward(self, tokens: list[list[int]]) -> Tensor:
        """Embed texts padded to the longest: mean of the token vectors, unit length."""
        width = max(map(len, tokens))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in tokens])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            hidden = self.body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1)


def read_texts(task: Task, encoder: Encoder) -> Texts:
    limit = task.embeddings.encoder.max_tokens or 256
    found = []
    for pairs in (task.dataset.iter_queries(), task.dataset.iter_documents()):
        ids, texts = zip(*pairs, strict=True)
        found.append(dict(zip(ids, encoder.tokenize(list(texts), limit), strict=True)))
    return Texts(*found)


def batches(qrels: Qrels, epoch: int) -> Iterator[list[tuple[str, str]]]:
    """Shuffle all pairs of a query and a relevant document; yield them by the batch."""
    pairs = [(query, doc_id) for query, labels in qrels.items() for doc_id in relevant(labels)]
    random.Random(f"{SEED} {epoch}").shuffle(pairs)  # noqa: S311  # not for secrets
    for start in range(0, len(pairs), BATCH_SIZE):
        yield pairs[start : start + BATCH_SIZE]


def batch_loss(
    encoder: Encoder, texts: Texts, qrels: Qrels, pairs: list[tuple[str, str]]
) -> Tensor:
    """Softmax of each query over the batch's documents, less the others that fit it too."""
    queries = encoder.embed([texts.queries[query] for query, _ in pairs])
    documents = encoder.embed([texts.documents[doc_id] for _, doc_id in pairs])
    fits = torch.tensor(
        [[qrels[query].get(doc_id, 0) > 0 for _, doc_id in pairs] for query, _ in pairs]
    )
    own = torch.eye(len(pairs), dtype=torch.bool)
    scores = (queries @ documents.T / TEMPERATURE).masked_fill(fits & ~own, -torch.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(pairs)))


def rate_at(step: int, n_steps: int) -> float:
    """Share of the learning rate at a step: up over the warm-up, then down to 0."""
    warm = max(1, round(WARM_UP * n_steps))
    return min((step + 1) / warm, (n_steps - step) / max(1, n_steps - warm))


class Fit:
    """One setting on one set of labels, kept epoch by epoch in a folder."""

    def __init__(self, folder: Path, encoder: Encoder, texts: Texts, setting: Setting) -> None:
        self.folder, self.encoder, self.texts, self.setting = folder, encoder, texts, setting
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log.json"
        self.log = json.loads(self.log_path.read_text()) if self.log_path.exists() else []

    def best(self) -> dict[str, float]:
        """Give the epoch with the best validation score."""
        return max(self.log, key=lambda entry: entry["dev"])

    def is_past_best(self) -> bool:
        """Tell whether the last epochs were no better than one before them."""
        return bool(self.log) and len(self.log) - self.best()["epoch"] >= PATIENCE

    def run(self, qrels: Qrels, validate: Callable[[Encoder], float] | None, *, stop: int) -> None:
        """Train up to an epoch under the setting's schedule, going on from what is kept."""
        body, rate = self.encoder.body, self.setting.rate
        self.encoder.precision = self.setting.precision
        optimizer = torch.optim.AdamW(body.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
        torch.manual_seed(SEED)
        self._restore(optimizer)
        while len(self.log) < stop and not (validate and self.is_past_best()):
            epoch = len(self.log) + 1
            started = time.monotonic()
            loss = self._train_epoch(optimizer, qrels, epoch)
            trained = time.monotonic()
            entry = {
                "epoch": epoch,
                "loss": loss,
                "dev": validate(self.encoder) if validate else 0.0,
                "train_seconds": trained - started,
                "validation_seconds": time.monotonic() - trained,
                "peak_resident_gb": peak_gb(),
            }
            print(self.folder.name, entry, flush=True)
            self._keep(optimizer, entry)

    def _train_epoch(self, optimizer: torch.optim.Optimizer, qrels: Qrels, epoch: int) -> float:
        """Pass over all pairs once; give the mean loss."""
        body, losses = self.encoder.body, []
        body.train()
        steps = list(batches(qrels, epoch))
        for place, pairs in enumerate(steps):
            step = (epoch - 1) * len(steps) + place
            for group in optimizer.param_groups:
                group["lr"] = self.setting.rate * rate_at(step, self.setting.epochs * len(steps))
            optimizer.zero_grad()
            loss = batch_loss(self.encoder, self.texts, qrels, pairs)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(body.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def load_best(self) -> None:
        """Put the best epoch's weights into the model."""
        self.encoder.body.load_state_dict(torch.load(self.folder / "best.pt", weights_only=True))

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the last epoch kept, if there is one."""
        path = self.folder / "last.pt"
        if not path.exists():
            self.log = []
            return
        state = torch.load(path, weights_only=True)
        self.encoder.body.load_state_dict(state["body"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.log = self.log[: state["epoch"]]

    def _keep(self, optimizer: torch.optim.Optimizer, entry: dict[str, float]) -> None:
        """Write down an epoch; what goes on from it comes last, so that it is never ahead."""
        self.log.append(entry)
        write_json(self.log_path, self.log)
        body = self.encoder.body.state_dict()
        if self.best() is entry:
            save_whole(self.folder / "best.pt", body)
        state = {
            "body": body,
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "epoch": entry["epoch"],
        }
        save_whole(self.folder / "last.pt", state)


def fresh(encoder: Encoder) -> None:
    """Put the released weights back."""
    encoder.body.load_state_dict(packaged_minilm()._model[0].auto_model.state_dict())


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def save_whole(path: Path, state: object) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def write_json(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
