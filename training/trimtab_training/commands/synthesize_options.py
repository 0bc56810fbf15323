"""Options of `trimtab synthesize`, by what they are about."""

from collections.abc import Callable
from typing import Any

import click

from trimtab_training.commands.options import PATH, SEED, FiniteRange

_STYLES = ("question", "keywords", "layperson", "command", "example")
_UNIT_SHARE = FiniteRange(0, 0.5)


def _group(*options: Any) -> Callable[[Any], Any]:
    """Add options in the order in which they are written."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


model_options = _group(
    click.option("--model", required=True, help="Name of the model, as the endpoint knows it."),
    click.option(
        "--base-url",
        default="https://api.openai.com/v1",
        show_default=True,
        help="OpenAI-compatible endpoint (OpenAI, vLLM, Ollama, llama.cpp), up to /v1.",
    ),
    click.option(
        "--api",
        type=click.Choice(["chat", "completions"]),
        default="chat",
        show_default=True,
        help="completions is for base models: they continue examples instead of following orders.",
    ),
    click.option(
        "--key-variable",
        default="OPENAI_API_KEY",
        show_default=True,
        help="Environment variable that holds the key; without it, none is sent.",
    ),
    click.option(
        "--temperature",
        type=FiniteRange(0, 2),
        default=0.9,
        show_default=True,
        help="How freely the model chooses.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(1),
        help="Longest answer, in tokens.  [default: 100 + 40 a query; completions: 40]",
    ),
    click.option(
        "--extra",
        metavar="JSON",
        help="More fields of every request, such as '{\"top_p\": 0.9}'; null removes one.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1000),
        default=8,
        show_default=True,
        help="Requests under way at once.",
    ),
    click.option(
        "--timeout",
        type=FiniteRange(min=0.1),
        default=120.0,
        show_default=True,
        help="Longest wait for one whole answer, in seconds.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        default=5,
        show_default=True,
        help="Further tries of a request after a failure that may pass.",
    ),
)

writing_options = _group(
    click.option(
        "--style",
        "styles",
        multiple=True,
        type=click.Choice(_STYLES),
        help="How queries sound; several may be given. 'example' imitates --examples.  "
        "[default: question, keywords, layperson; with --examples: example; with --template: none]",
    ),
    click.option(
        "--per-document",
        type=click.IntRange(1, 50),
        default=3,
        show_default=True,
        help="Queries of each style for one document.",
    ),
    click.option(
        "--examples",
        type=PATH,
        help="Real queries to write like: text, one a line; .jsonl of query and document; or a "
        "BEIR folder, of which only the train split is used.",
    ),
    click.option(
        "--template",
        type=PATH,
        help="Your own prompt: a text file with {document}, and perhaps {title}, {n}, {language}, "
        "{examples}, {variant}.",
    ),
    click.option(
        "--language",
        help="ISO 639-1 code to write in, such as de.  [default: each document's own]",
    ),
    click.option(
        "--max-document-tokens",
        type=click.IntRange(16),
        default=1500,
        show_default=True,
        help="As much of a document is shown to the model, in estimated tokens.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every choice."),
)

corpus_options = _group(
    click.option(
        "--budget",
        type=click.IntRange(1),
        default=1000,
        show_default=True,
        help="Documents to write for. A larger budget later keeps what was written.",
    ),
    click.option("--all-documents", is_flag=True, help="Write for every document: no budget."),
    click.option(
        "--embeddings",
        type=PATH,
        help="Folder with documents.npy: the sample then covers the corpus, by clusters.",
    ),
    click.option(
        "--documents",
        metavar="SOURCE",
        help="Stored vectors instead of --embeddings: faiss:PATH?ids=FILE, or "
        "qdrant://HOST:PORT/COLLECTION?vector=NAME (the key from QDRANT_API_KEY).",
    ),
    click.option(
        "--upstream-path",
        type=PATH,
        help="Folder of Qdrant's local mode, for --documents qdrant:///COLLECTION.",
    ),
)

filter_options = _group(
    click.option(
        "--encoder",
        help="Makes the round trip: 'minilm', a sentence-transformers folder, or 'openai:MODEL'. "
        "The stored vectors' own.  [default: no round trip]",
    ),
    click.option(
        "--encoder-url",
        default="https://api.openai.com/v1",
        show_default=True,
        help="Embeddings endpoint of an 'openai:' encoder; its key from OPENAI_API_KEY.",
    ),
    click.option("--query-prefix", default="", help="Text that the encoder wants before a query."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps."),
    click.option(
        "--top-k",
        type=click.IntRange(1, 1000),
        default=20,
        show_default=True,
        help="Documents within which a query must find its own.",
    ),
    click.option(
        "--similarity",
        type=click.Choice(["cosine", "dot", "euclid"]),
        default="cosine",
        show_default=True,
        help="Of the index.",
    ),
)

dataset_options = _group(
    click.option(
        "--real",
        type=PATH,
        help="BEIR folder of real queries about the same corpus; they become the test split.",
    ),
    click.option(
        "--real-split",
        type=click.Choice(["keep", "test", "divide"]),
        default="keep",
        show_default=True,
        help="keep their splits, and a single one is test; all to test; or divide a single one, "
        "a fifth by document to test.",
    ),
    click.option(
        "--include-held-out",
        is_flag=True,
        help="Write about documents of real dev and test queries, too; these then count as seen.",
    ),
    click.option(
        "--dev-share",
        type=_UNIT_SHARE,
        default=0.1,
        show_default=True,
        help="Share of the documents whose written queries are for choosing.",
    ),
    click.option(
        "--test-share",
        type=_UNIT_SHARE,
        default=0.1,
        show_default=True,
        help="Share of the documents whose written queries are for testing; 0 with --real.",
    ),
)
