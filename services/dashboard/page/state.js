// What the page knows. Rings are bounded in time as the server's are, so that a page left open for days stays small.

const HISTORY_S = 900;
const RINGS = ["traffic", "lead", "replicas", "decision"];

export const state = {
  traffic: [],
  lead: [],
  replicas: [],
  decision: [],
  forecast: null,
  mesh: null,
  skewS: 0, // server clock minus this browser's clock
};

/** Epoch seconds by the server's clock. */
export function now() {
  return Date.now() / 1000 + state.skewS;
}

/** Take over a whole history: what was here before is forgotten, so nothing is doubled after a reconnect. */
export function restore(history) {
  state.skewS = history.now - Date.now() / 1000;
  for (const ring of RINGS) state[ring] = history.rings[ring] ?? [];
  state.forecast = history.latest.forecast ?? null;
  state.mesh = history.latest.mesh ?? null;
}

/** Add one update. */
export function update(kind, data) {
  if (!RINGS.includes(kind)) {
    state[kind] = data;
    if (kind === "mesh") state.skewS = data.now - Date.now() / 1000;
    return;
  }
  const ring = state[kind];
  ring.push(data);
  if (ring.length > 1 && ring.at(-2).t > data.t) ring.sort((a, b) => a.t - b.t);
  const oldest = now() - HISTORY_S;
  while (ring.length && ring[0].t < oldest) ring.shift();
}

/** Traffic since `from`, one entry per second; several gateways are added up, of percentiles the worst counts. */
export function seconds(from) {
  const merged = new Map();
  for (const one of state.traffic) {
    if (one.t < from) continue;
    const key = Math.round(one.t);
    const sum = merged.get(key);
    if (!sum) {
      merged.set(key, { ...one });
      continue;
    }
    for (const count of ["arrivals", "answered", "shed", "failed", "in_flight"]) sum[count] += one[count];
    for (const p of ["p50_ms", "p95_ms", "p99_ms"]) sum[p] = Math.max(sum[p] ?? 0, one[p] ?? 0) || null;
  }
  return [...merged.values()];
}
