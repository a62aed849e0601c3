"""The typed keys under which handlers find what ``server.app`` built."""

from __future__ import annotations

from aiohttp import web

from server.config import Config
from server.inference import House
from server.metrics import Metrics
from server.store.registry.client import Registry

CONFIG = web.AppKey("config", Config)
HOUSE = web.AppKey("house", House)
METRICS = web.AppKey("metrics", Metrics)
REGISTRY = web.AppKey("registry", Registry)
