"""The `foremesh` command: one verb a file."""

from __future__ import annotations

import importlib
import sys

import typer

VERBS = ("up", "down", "status", "logs", "ask", "scale", "demo", "trace", "settings")
GROUPS = ("bench", "forecast", "lab", "models")


def application() -> typer.Typer:
    """Builds the command; each verb's module is imported here, so nothing heavy may be imported at their top."""
    app = typer.Typer(
        name="foremesh",
        help="Edge inference on Dapr that scales before the traffic arrives.",
        epilog="Start with: foremesh up; foremesh ask 'turn on the kitchen light'; foremesh demo --help",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in VERBS:
        app.command(name=verb)(getattr(importlib.import_module(f"foremesh.{verb}"), verb))
    for group in GROUPS:
        app.add_typer(importlib.import_module(f"foremesh.{group}").app, name=group)
    return app


def main() -> int:
    application()()
    return 0


if __name__ == "__main__":
    sys.exit(main())
