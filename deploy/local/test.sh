#!/usr/bin/env bash
# Every test: Go's, then Python's. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest "$@"; fi
go=$(.venv/bin/python -c 'from deploy.local.tools import find_go; print(find_go() or "")')
[ -n "$go" ] || { echo "test: no Go found; run make setup" >&2; exit 1; }
for module in edge/sidecar edge/gateway lab/loadgen; do
  [ -f "$module/go.mod" ] || continue
  echo "go test $module"; (cd "$module" && "$go" test ./...)
done
failed=0
# Training is work for every core, and asks nothing of the clock; what is timed has the machine to itself.
.venv/bin/python -m pytest -n logical --dist loadfile tests/unit/models || failed=1
.venv/bin/python -m pytest --ignore tests/unit/models || failed=1
exit $failed
