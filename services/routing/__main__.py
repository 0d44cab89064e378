"""`python -m services.routing`: run the service as its environment says."""

from __future__ import annotations

from services.common.app import run
from services.routing.app import create
from services.routing.settings import Settings

run(Settings, create)
