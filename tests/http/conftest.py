"""A client of the whole HTTP side, with fakes behind the hallway."""

from __future__ import annotations

from typing import Any

import pytest

from server.app import build_app
from server.config import Config
from server.inference import House


@pytest.fixture
def config() -> Config:
    return Config()


@pytest.fixture
def house(library: Any, manager: Any) -> House:
    return House(library, manager)


@pytest.fixture
async def client(aiohttp_client: Any, config: Config, house: House) -> Any:
    return await aiohttp_client(build_app(config, house), server_kwargs={"handler_cancellation": True})
