"""All collections of one server, and their aliases, in one folder."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import orjson

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import (
    already_exists,
    bad_format,
    missing_collection,
    not_found,
    wrong_input,
)

Json = dict[str, Any]


class Registry:
    """Finds collections by name or alias; what it holds survives a restart on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = folder / "collections"
        self._root.mkdir(parents=True, exist_ok=True)
        self._aliases_file = folder / "aliases.json"
        self.aliases: dict[str, str] = {}
        if self._aliases_file.exists():
            self.aliases = orjson.loads(self._aliases_file.read_bytes())
        self.collections = {
            unquote(path.parent.name): Collection(path.parent, self.find)
            for path in sorted(self._root.glob("*/config.json"))
        }

    def close(self) -> None:
        for collection in self.collections.values():
            collection.close()

    def find(self, name: str) -> Collection:
        found = self.collections.get(name)
        if found is None:
            found = self.collections.get(self.aliases.get(name, ""))
        if found is None:
            raise missing_collection(name)
        return found

    def exists(self, name: str) -> bool:
        return name in self.collections or name in self.aliases

    def create(self, name: str, config: Json) -> None:
        if self.exists(name):
            raise already_exists(name)
        folder = self._root / quote(name, safe="")
        try:
            self.collections[name] = Collection(folder, self.find, config)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def delete(self, name: str) -> bool:
        collection = self.collections.pop(name, None)
        if collection is None:
            return False
        collection.close()
        shutil.rmtree(collection.folder)
        self._keep({a: target for a, target in self.aliases.items() if target != name})
        return True

    def change_aliases(self, actions: list[Json]) -> None:
        """All of the actions, or none of them."""
        aliases = dict(self.aliases)
        for action in actions:
            self._change(aliases, action)
        self._keep(aliases)

    def _change(self, aliases: dict[str, str], action: Json) -> None:
        if create := action.get("create_alias"):
            target, alias = create["collection_name"], create["alias_name"]
            if target not in self.collections:
                raise missing_collection(target)
            if alias in self.collections:
                raise wrong_input(f"Collection `{alias}` already exists!")
            aliases[alias] = target
        elif delete := action.get("delete_alias"):
            aliases.pop(delete["alias_name"], None)
        elif rename := action.get("rename_alias"):
            old = rename["old_alias_name"]
            if old not in aliases:
                raise not_found(f"Alias {old} does not exists!")
            aliases[rename["new_alias_name"]] = aliases.pop(old)
        else:
            raise bad_format("data did not match any variant of untagged enum AliasOperations")

    def _keep(self, aliases: dict[str, str]) -> None:
        self.aliases = aliases
        partial = self._aliases_file.with_suffix(".partial")
        partial.write_bytes(orjson.dumps(aliases))
        partial.replace(self._aliases_file)

    def list_aliases(self, collection: str | None = None) -> Json:
        """Aliases of every collection, or of one, which may itself be named by an alias."""
        if collection is not None:
            found = self.find(collection)
            collection = next(n for n, c in self.collections.items() if c is found)
        return {
            "aliases": [
                {"alias_name": alias, "collection_name": target}
                for alias, target in sorted(self.aliases.items())
                if collection in (None, target)
            ]
        }
