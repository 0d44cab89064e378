"""`python -m services.autoscaler`: run the service as its environment says, until SIGTERM."""

from __future__ import annotations

from services.autoscaler.app import create
from services.autoscaler.settings import Settings
from services.common.app import run

run(Settings, create)
