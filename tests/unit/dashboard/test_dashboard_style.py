"""Contrast of the page's colours, light and dark, by the formula of WCAG 2.2 (1.4.3 and 1.4.11)."""

from __future__ import annotations

import re

import pytest

from services.dashboard.assets import PAGE

TEXTS = ("text", "muted", "request", "event", "control", "good", "warn", "bad", "info")
GROUNDS = ("bg", "panel", "sunken")


def palettes() -> dict[str, dict[str, str]]:
    """The custom properties of both schemes; dark inherits what it does not set."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", (PAGE / "style.css").read_text("utf-8"), re.DOTALL)[:2]
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for text in (light, dark)]
    return {"light": found[0], "dark": found[0] | found[1]}


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(scheme: str) -> None:
    palette = palettes()[scheme]
    weak = {
        (text, ground): round(contrast(palette[text], palette[ground]), 2)
        for text in TEXTS
        for ground in GROUNDS
        if contrast(palette[text], palette[ground]) < 4.5
    }
    assert weak == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_can_be_told_from_the_ground(scheme: str) -> None:
    palette = palettes()[scheme]
    services = [name for name in palette if name.startswith("service-")]
    assert len(services) == 10
    assert all(contrast(palette[name], palette["panel"]) >= 3 for name in services)


def test_the_formula_is_the_one_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
