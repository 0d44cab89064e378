"""`python -m services.predictor`: run the service as its environment says."""

from __future__ import annotations

import sys

from services.common.app import run
from services.predictor.app import build
from services.predictor.lstm import BadArtefact
from services.predictor.settings import Settings

if __name__ == "__main__":
    try:
        run(Settings, build)
    except BadArtefact as error:
        sys.exit(f"services.predictor cannot start: {error}")
