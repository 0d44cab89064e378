"""What Prometheus sees of the predictor."""

from prometheus_client import Counter, Gauge, Histogram

from services.predictor.champion import Champion
from services.predictor.forecast import Forecast

REPORTS = Counter("predictor_reports", "Traffic reports by what became of them", ["verdict"])
PUBLISHED = Counter("predictor_forecasts_published", "Forecasts published")
FAILED = Counter("predictor_failures", "Turns and calls through Dapr that failed", ["what"])
SILENT = Gauge("predictor_silent", "1 while no gateway reports and so nothing is forecast")
COMPUTE = Histogram(
    "predictor_compute_seconds",
    "Wall time of a forecast, by the forecaster that answered",
    ["model"],
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2),
)
WEIGHT = Gauge("predictor_weight", "Share that a forecaster has in what goes out, 0..1", ["model"])
LEADS = Gauge("predictor_leads", "1 for the forecaster that counts most, 0 for the others", ["model"])
DEMOTIONS = Counter("predictor_demotions", "Times that a forecaster lost the lead", ["model"])
COVERAGE = Gauge(
    "predictor_coverage_q95", "Share of outcomes at or below the 0.95 quantile, fading", ["model"]
)
MAE_RATIO = Gauge(
    "predictor_mae_ratio",
    "Mean absolute error over that of the last value, fading; below 1 is better",
    ["model"],
)


def show(forecast: Forecast, champion: Champion) -> None:
    """Set the gauges from the forecast that goes out and the record of all; `champion` is what went out."""
    COMPUTE.labels(forecast.model).observe(forecast.compute_ms / 1e3)
    for model, weight in champion.weights.items():
        WEIGHT.labels(model).set(weight)
        LEADS.labels(model).set(model == champion.leader)
    for model, record in champion.records.items():
        if record.coverage_q95 is not None:
            COVERAGE.labels(model).set(record.coverage_q95)
        if record.mae_ratio is not None:
            MAE_RATIO.labels(model).set(record.mae_ratio)
