"""`python -m services.tokenization`: run the service as its environment says."""

from __future__ import annotations

from services.common.app import run
from services.tokenization.app import create
from services.tokenization.settings import Settings

run(Settings, create)
