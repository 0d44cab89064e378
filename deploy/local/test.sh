#!/usr/bin/env bash
# Every test: Go's, then Python's. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
go=$(.venv/bin/python -c 'from deploy.local.tools import find_go; print(find_go() or "")')
[ -n "$go" ] || { echo "test: no Go found; run make setup" >&2; exit 1; }
if [ $# -eq 0 ]; then
  for module in edge/gateway lab/loadgen; do
    [ -f "$module/go.mod" ] || continue
    echo "go test $module"; (cd "$module" && "$go" test ./...)
  done
fi
exec .venv/bin/python -m pytest "$@"
