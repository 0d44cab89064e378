"""Seasonal: the last level goes on, changed as the found periods have changed before."""

import numpy as np

from services.predictor.forecast import ColdStart, Floats, Origins
from services.predictor.relative import relative
from services.predictor.seasons import Seasons

NEAR = 6
"""Steps of which the mean is taken for the level that goes on."""


class Seasonal:
    """See Points. It answers only while a period is known."""

    name = "seasonal"

    def __init__(self, seasons: Seasons) -> None:
        self._seasons = seasons

    def points(self, origins: Origins) -> Floats:
        """See Points.points. ColdStart while no period has been found."""
        outlooks = self._seasons.outlooks(origins)
        if outlooks is None:
            raise ColdStart("no period has been found")
        series = relative(origins.histories, NEAR, 1)
        return series.counts(series.log(1) + np.stack([outlook.changes for outlook in outlooks]))
