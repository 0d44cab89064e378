"""What a service says about settings it cannot use: the variable, the value unless it is secret, the way out."""

from __future__ import annotations

import pytest
from pydantic import Field, SecretStr, ValidationError, model_validator

from services.common.settings import ServiceSettings, explain


class Settings(ServiceSettings):
    few: int = Field(default=1, ge=1, description="At least one.")
    key: SecretStr = Field(default=SecretStr("long enough"), min_length=8, description="A secret.")

    @model_validator(mode="after")
    def _few_enough(self) -> Settings:
        if self.few == 7:
            raise ValueError("few (7) must not be seven")
        return self


def said(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return explain(caught.value, Settings)


def test_every_wrong_variable_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, FOREMESH_FEW="0", DAPR_HTTP_PORT="high")
    assert "FOREMESH_FEW='0': Input should be greater than or equal to 1" in text
    assert "DAPR_HTTP_PORT='high'" in text and text.endswith("`foremesh settings` lists what can be set")


def test_what_the_environment_holds_by_the_bare_name_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = said(monkeypatch, FOREMESH_PORT="70000", PORT="8080")
    assert text.startswith("FOREMESH_PORT='70000': ") and "8080" not in text


def test_a_secret_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(monkeypatch, FOREMESH_KEY="sesame")
    assert "FOREMESH_KEY=***" in text and "sesame" not in text


def test_a_rule_about_several_settings_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, FOREMESH_FEW="7").startswith("few (7) must not be seven; ")
