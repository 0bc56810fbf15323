"""One world, and the fits on it that tests only read."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.support.fits import RECIPES, Fitted
from tests.support.worlds import World, make_world
from trimtab_training.fit.fit import FitSettings, fit_adapter


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fitted]:
    """Fits by the names of their recipes, each run once a process: tests only read them."""

    @cache
    def fit(name: str) -> Fitted:
        fitted = Fitted(tmp_path_factory.mktemp(name))
        fitted.result = fit_adapter(
            world.dataset,
            world.embeddings,
            RECIPES[name],
            FitSettings(workspace=fitted.folder),
            progress=lambda done, total: fitted.calls.append((done, total)),
        )
        return fitted

    return fit
