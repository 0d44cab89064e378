"""The forecaster as it is served: made here for the service, the backtest and the lab."""

from pathlib import Path

from services.predictor.adapted import Adapted
from services.predictor.ar import Ar
from services.predictor.champion import Champion
from services.predictor.ets import Ets
from services.predictor.lstm import ARTEFACTS, Lstm
from services.predictor.persistence import Persistence
from services.predictor.seasonal import Seasonal
from services.predictor.seasons import Seasons
from services.predictor.spread import WithSpread


def served(where: Path = ARTEFACTS) -> Champion:
    """A new champion without a record, around the network at `where` (see lstm.files); raises BadArtefact."""
    seasons = Seasons()
    lstm = Lstm(where, seasons)
    return Champion(
        [
            Persistence(),
            lstm,
            Adapted(lstm),
            WithSpread(Ar()),
            WithSpread(Ets()),
            WithSpread(Seasonal(seasons)),
        ],
        [0.3, 0.4, 0.1, 0.05, 0.1, 0.05],
        seasons,
    )
