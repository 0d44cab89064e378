"""The LSTM forecaster: a trained network in ONNX Runtime, residual over the last level."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from services.predictor import features
from services.predictor.forecast import ColdStart, Expert, Floats, Origins
from services.predictor.seasons import Seasons

ARTEFACTS = Path(__file__).parent / "artefacts"
"""The network that the project ships: forecaster.onnx and its card.json."""

MIN_STEPS = 12
"""Known steps in the window before the network is asked; it was trained on windows from 8 steps."""


class BadArtefact(RuntimeError):
    """The network on disk is not the one its card describes."""


@dataclass(frozen=True)
class Read:
    """One run of the network. residuals: [origin, horizon, quantile], in usual changes. state: [origin, unit], the
    LSTM's after the last step."""

    encoded: features.Encoded
    residuals: features.Float32s
    state: features.Float32s


class Lstm(Expert):
    """Loads the network once; the forecasts of some origins are one run of it on one thread."""

    name = "lstm"

    def __init__(self, where: Path = ARTEFACTS, seasons: Seasons | None = None) -> None:
        """Load the network at `where` (see files). Raises BadArtefact when its hash is not the card's.

        seasons: memory of the series, for the periods found in it; without one it knows of none.
        """
        self._seasons = seasons
        self._last: tuple[Origins, Read] | None = None
        network = verified(where)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])

    def counts(self, origins: Origins) -> Floats:
        """See Expert.counts. ColdStart with fewer than MIN_STEPS known steps among the last LAGS."""
        read = self.read(origins)
        return read.encoded.counts(read.residuals)

    def read(self, origins: Origins) -> Read:
        """What the network makes of histories; asked again with the very same ones, it is not run again."""
        if self._last is not None and self._last[0] is origins:
            return self._last[1]
        windows = origins.histories[:, -features.LAGS :]
        known = int(np.isfinite(windows[0]).sum())
        if known < MIN_STEPS:
            raise ColdStart(
                f"the LSTM needs {MIN_STEPS} known steps of the last {features.LAGS}, has {known}"
            )
        encoded = features.encode(windows, None if self._seasons is None else self._seasons.outlooks(origins))
        residuals, state = self._session.run(None, {"window": encoded.window, "context": encoded.context})
        read = Read(encoded, residuals, state)
        self._last = (origins, read)
        return read


def files(where: Path) -> tuple[Path, Path]:
    """The network and its card: NAME.onnx and NAME.card.json, or forecaster.onnx and card.json in a folder."""
    if where.suffix == ".onnx":
        return where, where.with_suffix(".card.json")
    return where / "forecaster.onnx", where / "card.json"


def verified(where: Path) -> bytes:
    """The bytes of the network at `where`, after a look at its hash in the card; BadArtefact if not."""
    path, card = files(where)
    try:
        network = path.read_bytes()
        expected = json.loads(card.read_text(encoding="utf-8"))["sha256"][path.name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadArtefact(
            f"{where}: needs {path.name} and a {card.name} with its sha256: {error!r}"
        ) from error
    actual = hashlib.sha256(network).hexdigest()
    if actual != expected:
        raise BadArtefact(
            f"{path}: sha256 {actual} is not the card's {expected}; restore the file or train it again"
            " (foremesh forecast train)"
        )
    return network
