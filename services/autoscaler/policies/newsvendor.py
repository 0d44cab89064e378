"""What a shortage costs against what a surplus costs, as the quantile of the load to provide for."""

from __future__ import annotations

import math


def quantile_of(price: float) -> float:
    """The quantile of the need at which one replica more costs as much as it saves, when a missing replica costs
    `price` times one that is too many.

    The newsvendor's critical ratio price / (price + 1) (Arrow, Harris and Marschak, "Optimal Inventory Policy", 1951).
    Raises ValueError unless the price is above zero and finite.
    """
    if not (math.isfinite(price) and price > 0):
        raise ValueError(f"price {price} is not above zero")
    return price / (price + 1.0)
