"""What an import costs, what it gives, and who may know whom."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from trimtab.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
HEAVY = {"torch", "transformers", "sklearn", "pandas", "sentence_transformers"}
FRAMEWORKS = {"fastembed", "haystack", "langchain_core", "llama_index"}
ONLY_WHEN_USED = FRAMEWORKS | {
    "faiss",
    "qdrant_client",
    "grpc",
    "onnx",
    "onnxscript",
    "httpx",
    "rich",
}


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter; give the top-level modules that it loaded."""
    code = f"{statement}\nimport json, sys\nprint('\\n' + json.dumps(list(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    names = json.loads(result.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in names}


def test_loaded_by_sees_what_is_loaded() -> None:
    assert "wave" in loaded_by("import wave")


def test_sidecar_loads_nothing_heavy_and_no_training() -> None:
    loaded = loaded_by(
        "import trimtab\n"
        "from trimtab import Adapter\n"
        "import trimtab.clients.faiss, trimtab.encoders, trimtab.hook, trimtab.routing.routes\n"
        "import trimtab.commands.group, trimtab.commands.inspect, trimtab.commands.transform"
    )
    assert not loaded & (HEAVY | ONLY_WHEN_USED | {"trimtab_training", "msgspec"})


def test_a_sidecar_without_grpc_leaves_the_packages_of_grpc_alone() -> None:
    loaded = loaded_by(
        "import trimtab.commands.serve, trimtab.server.process.run\n"
        "import trimtab.server.process.supervisor, trimtab.server.process.worker"
    )
    assert "httptools" in loaded
    assert not loaded & (HEAVY | {"qdrant_client", "grpc", "pydantic", "trimtab_training"})


def test_a_sidecar_with_grpc_takes_qdrants_messages_without_the_client_around_them() -> None:
    loaded = loaded_by("import trimtab.server.process.worker, trimtab.server.grpc.service")
    assert "grpc" in loaded
    assert not loaded & (HEAVY | {"qdrant_client", "httpx", "pydantic", "trimtab_training"})


@pytest.mark.parametrize("ours_first", [True, False])
def test_qdrants_messages_are_those_of_a_client_beside_them(ours_first: bool) -> None:
    imports = [
        "from trimtab.rewrite.qdrant_messages import SERVICES, messages as ours",
        "from qdrant_client import grpc as theirs",
    ]
    code = [
        *(imports if ours_first else reversed(imports)),
        "assert ours.QueryPoints is theirs.QueryPoints",
        "assert [one.DESCRIPTOR.name for one in SERVICES] == ['points_service.proto',"
        " 'collections_service.proto', 'snapshots_service.proto', 'qdrant.proto']",
        f"assert (ours is theirs) is {not ours_first}",
    ]
    run = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(
        run, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr


def test_frameworks_bring_no_torch_into_the_sidecar() -> None:
    loaded = loaded_by(
        "import sys; sys.modules['torch'] = None  # Haystack imports it where it is installed\n"
        "import trimtab.integrations.fastembed, trimtab.integrations.haystack\n"
        "import trimtab.integrations.langchain, trimtab.integrations.llama_index\n"
        "del sys.modules['torch']"
    )
    assert loaded >= FRAMEWORKS
    assert not loaded & (HEAVY | {"trimtab_training"})


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("trimtab.integrations.fastembed", "fastembed", "fastembed"),
        ("trimtab.integrations.haystack", "haystack", "haystack"),
        ("trimtab.integrations.langchain", "langchain_core", "langchain"),
        ("trimtab.integrations.llama_index", "llama_index", "llama-index"),
        (
            "trimtab_training.integrations.sentence_transformers",
            "sentence_transformers",
            "sentence-transformers",
        ),
    ],
)
def test_a_framework_that_is_not_installed_is_named_with_its_extra(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in {package, *hidden}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'trimtab\[{extra}\]'$"):
        import_module(module)


def test_every_public_name_of_the_sidecar_does_without_training_and_torch() -> None:
    loaded = loaded_by("from trimtab import *")
    assert "qdrant_client" in loaded
    assert not loaded & (HEAVY | {"trimtab_training", "onnx", "faiss"})


def test_adapter_runs_without_anything_heavy() -> None:
    from tests.support.onnx_models import DIM_IN, linear_bytes

    loaded = loaded_by(
        f"from trimtab import Adapter; a = Adapter.from_bytes({linear_bytes()!r})\n"
        f"assert a.transform([0.5] * {DIM_IN}).shape == (4,)"
    )
    assert "onnxruntime" in loaded
    assert not loaded & (HEAVY | ONLY_WHEN_USED | {"trimtab_training"})


def test_help_and_import_of_training_load_nothing_heavy() -> None:
    loaded = loaded_by(
        "import trimtab_training\n"
        "from trimtab.commands.group import main\n"
        "for arguments in ['--help'], ['fit', '-h'], ['demo', '-h'], ['search', '-h']:\n"
        "    try:\n        main(arguments)\n"
        "    except SystemExit as done:\n        assert not done.code, arguments"
    )
    assert "trimtab_training" in loaded
    assert not loaded & (HEAVY | {"faiss", "onnx", "onnxruntime", "qdrant_client", "grpc"})


def test_export_of_a_built_in_adapter_leaves_torchs_exporter_alone() -> None:
    loaded = loaded_by(
        "from trimtab_training.adapters import LinearAdapter\n"
        "from trimtab_training.embeddings.store import EncoderInfo\n"
        "from trimtab_training.export.onnx_export import describe_adapter, export_adapter\n"
        "adapter = LinearAdapter(4)\n"
        "encoder = EncoderInfo('toy', 'sha256:toy', 4, normalised=True)\n"
        "manifest = describe_adapter(adapter, encoder, name='toy', similarity='cosine')\n"
        "assert export_adapter(adapter, manifest)"
    )
    assert "onnx" in loaded
    assert "onnxscript" not in loaded


@pytest.mark.parametrize("package", ["trimtab", "trimtab_training", "trimtab.clients"])
def test_public_names_are_there_and_in_order(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_public_names_of_the_sidecar_are_known() -> None:
    """Each is a promise to users; a change belongs into the changelog."""
    import trimtab

    assert set(trimtab.__all__) == {
        "AdaptedIndex",
        "AdaptedQdrantClient",
        "Adapter",
        "AsyncAdaptedQdrantClient",
        "AsyncQueryHook",
        "EndpointSettings",
        "Manifest",
        "OpenAIEncoder",
        "Policies",
        "QueryHook",
        "Route",
        "Routes",
        "SidecarError",
        "TextEncoder",
    }


def test_every_command_can_be_loaded() -> None:
    points = entry_points(group="trimtab.commands")
    assert {"inspect", "transform", "fit", "evaluate", "export"} <= points.names
    for point in points:
        assert point.load().name == point.name


def test_contracts_between_modules_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_of_a_command_sleep_while_they_wait(own: str | None) -> None:
    """Where another process takes a core, threads that spin took 4.5 times as long."""
    code = (
        "import click, os, sys; from trimtab.commands.group import main\n"
        "assert main.get_command(click.Context(main), 'fit') and 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    theirs = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=theirs | ({"OMP_WAIT_POLICY": own} if own else {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == f"{own or 'PASSIVE'}\n"
