"""The forecaster as it is served: made in one place for the service, its backtest and the lab."""

from pathlib import Path

from services.predictor.champion import Champion
from services.predictor.lstm import ARTEFACTS, Lstm
from services.predictor.persistence import Persistence


def served(folder: Path = ARTEFACTS) -> Champion:
    """A new champion without a record, around the network in `folder`; raises BadArtefact."""
    return Champion(Lstm(folder), Persistence())
