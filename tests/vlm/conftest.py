"""Here a test of a family is one of every family."""

from __future__ import annotations

import pytest

from tests.families import BUILDERS, Family


@pytest.fixture(scope="session", params=BUILDERS)
def family(request) -> Family:
    return BUILDERS[request.param]()
