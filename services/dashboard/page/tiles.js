// The row of numbers under the header, and what the header says about the mesh.

import { milliseconds, number, say, span } from "./dom.js";
import { now, seconds, state } from "./state.js";

const byId = (id) => document.getElementById(id);

/** Numbers of the last seconds and of the window. */
export function drawTiles(windowS) {
  const inside = seconds(now() - windowS);
  drawTraffic(inside, windowS);
  drawForecast();
  drawReplicas();
  drawHeader();
}

function drawTraffic(inside, windowS) {
  const last = inside.filter((one) => one.t > now() - 10).at(-1);
  say(byId("tile-rate"), last ? number(last.arrivals) : "–");
  say(byId("note-rate"), last ? `${number(last.in_flight)} in flight` : "no traffic seen");
  const timed = inside.filter((one) => one.p95_ms !== null).at(-1);
  say(byId("tile-p95"), milliseconds(timed?.p95_ms));
  say(byId("note-p95"), timed ? `p50 ${milliseconds(timed.p50_ms)}, p99 ${milliseconds(timed.p99_ms)}` : "");

  const sum = (field) => inside.reduce((total, one) => total + one[field], 0);
  const [arrived, answered, shed, failed] = ["arrivals", "answered", "shed", "failed"].map(sum);
  const finished = answered + shed + failed;
  say(byId("tile-answered"), finished ? `${((100 * answered) / finished).toFixed(answered === finished ? 0 : 2)} %` : "–");
  say(byId("note-answered"), `${number(answered)} of ${number(arrived)} in ${windowS / 60} min`);
  say(byId("tile-shed"), finished ? number(shed + failed) : "–");
  say(byId("note-shed"), finished ? `${number(shed)} shed, ${number(failed)} failed` : "");
  byId("tile-shed").dataset.state = failed ? "bad" : shed ? "warn" : "good";
}

function drawForecast() {
  const point = state.lead.at(-1);
  const issued = state.forecast;
  say(byId("tile-forecast"), point ? number(point.q50) : "–");
  say(
    byId("note-forecast"),
    point && issued ? `in ${span(point.lead_s)}: ${number(point.q05)} to ${number(point.q95)}` : "none yet",
  );
}

function drawReplicas() {
  const last = state.replicas.at(-1);
  say(byId("tile-ready"), last ? String(last.ready) : "–");
  say(byId("tile-wanted"), last ? ` of ${last.wanted} wanted` : "");
  const delay = state.mesh?.scaled?.start_delay_s ?? state.decision.at(-1)?.observation.start_delay_s;
  const takes = delay ? `${number(delay)} s` : "";
  const idle = takes ? `a start takes ${takes}` : "";
  say(byId("note-replicas"), last?.starting ? `${last.starting} starting${takes ? `, takes ${takes}` : ""}` : idle);
}

function drawHeader() {
  const { mesh } = state;
  const pill = byId("mtls");
  if (!mesh?.processes) {
    say(byId("mesh-name"), mesh?.why ? `no supervisor: ${mesh.why}` : "waiting for the mesh");
    return;
  }
  const stale = mesh.reachable ? "" : "; supervisor does not answer";
  say(byId("mesh-name"), `${mesh.mesh ?? "mesh"} · trust domain ${mesh.trust_domain ?? "unknown"}${stale}`);
  const seen = (mesh.identities ?? []).filter((one) => one.mtls).length;
  const all = (mesh.identities ?? []).length;
  pill.dataset.state = !all ? "unknown" : seen === all ? "good" : "bad";
  const sidecars = seen === all ? `all ${all}` : `${seen} of ${all}`;
  const hops = mesh.hops ? `, ${number(mesh.hops.mtls)} hops, ${number(mesh.hops.plaintext)} plaintext` : "";
  say(pill, all ? `mTLS on ${sidecars} sidecars${hops}` : "no identities seen");
}
