"""All collections of one server, and their aliases, in one folder."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.qdrant.collection import Collection
from tests.support.qdrant.errors import already_exists, missing_collection

Json = dict[str, Any]


class Registry:
    """Finds collections by name or alias."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.aliases: dict[str, str] = {}
        self.collections: dict[str, Collection] = {}

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
        self.collections[name] = Collection(self._folder / quote(name, safe=""), config)

    def delete(self, name: str) -> bool:
        collection = self.collections.pop(name, None)
        if collection is None:
            return False
        collection.close()
        shutil.rmtree(collection.folder)
        self.aliases = {a: target for a, target in self.aliases.items() if target != name}
        return True

    def change_aliases(self, actions: list[Json]) -> None:
        for action in actions:
            if create := action.get("create_alias"):
                target = create["collection_name"]
                if target not in self.collections:
                    raise missing_collection(target)
                self.aliases[create["alias_name"]] = target
            else:
                self.aliases.pop(action["delete_alias"]["alias_name"], None)

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
