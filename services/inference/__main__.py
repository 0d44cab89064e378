"""`python -m services.inference`: run the service as its environment says."""

from __future__ import annotations

from services.common.app import run
from services.common.memory import one_arena
from services.inference.app import create
from services.inference.settings import Settings

one_arena()
run(Settings, create)
