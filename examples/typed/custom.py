"""A model that is one typed function: its hints are the schema that callers see and that is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ETHANOL_DENSITY = 0.789
"""Grams per millilitre, at 20 °C."""

ETHANOL_ENERGY = 7.0
SUGAR_ENERGY = 4.0
"""Kilocalories per gram (the rounded Atwater factors)."""

GLASS = {"tasting": 50.0, "small": 125.0, "large": 250.0}
"""Millilitres."""


@dataclass
class Energy:
    kilocalories: float
    from_alcohol: float
    from_sugar: float


def predict(
    alcohol: float,
    sugar: float = 2.0,
    glass: Literal["tasting", "small", "large"] = "small",
) -> Energy:
    """The energy in a glass of wine.

    Args:
        alcohol: percent by volume.
        sugar: residual sugar, grams per litre.
        glass: how much is poured.
    """
    millilitres = GLASS[glass]
    from_alcohol = alcohol / 100 * millilitres * ETHANOL_DENSITY * ETHANOL_ENERGY
    from_sugar = sugar * millilitres / 1000 * SUGAR_ENERGY
    return Energy(from_alcohol + from_sugar, from_alcohol, from_sugar)
