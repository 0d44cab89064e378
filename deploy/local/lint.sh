#!/usr/bin/env bash
# Every linter; stops at the first that complains.
set -euo pipefail
cd "$(dirname "$0")/../.."
go=$(.venv/bin/python -c 'from deploy.local.tools import find_go; print(find_go() or "")')
[ -n "$go" ] || { echo "lint: no Go found; run make setup" >&2; exit 1; }
echo "ruff"; .venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check .
# Beside the other caches: a fresh clone need not read every package again.
echo "mypy --strict"; .venv/bin/mypy --no-error-summary --cache-dir "${XDG_CACHE_HOME:-$HOME/.cache}/foremesh/mypy"
for module in edge/sidecar edge/gateway lab/loadgen; do
  [ -f "$module/go.mod" ] || continue
  echo "gofmt, go vet, staticcheck: $module"
  unformatted=$("$("$go" env GOROOT)/bin/gofmt" -l "$module")
  [ -z "$unformatted" ] || { echo "not gofmt'ed: $unformatted" >&2; exit 1; }
  (cd "$module" && "$go" vet ./... && { ! grep -q staticcheck go.mod || "$go" tool staticcheck ./...; })
done
