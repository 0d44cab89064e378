// What the autoscaler decided and why, newest first. Holding the same count again and again is one
// row, with the latest reasons.

import { clock, h, say, span } from "./dom.js";
import { now } from "./state.js";

const MAX_ROWS = 40;
const holds = (decision) => decision.wanted === decision.previous;
const same = (a, b) => holds(a) && holds(b) && a.app === b.app && a.policy === b.policy && a.wanted === b.wanted;

/** The rows for a list of decisions by time: [{newest, since, count}], newest first. */
function grouped(decisions) {
  const rows = [];
  for (const decision of decisions) {
    const last = rows.at(-1);
    if (last && same(last.newest, decision)) {
      last.newest = decision;
      last.count += 1;
    } else {
      rows.push({ newest: decision, since: decision.t, count: 1 });
    }
  }
  return rows.reverse().slice(0, MAX_ROWS);
}

const drawn = new Map();

/** Bring the list up to date; rows keep their elements, so that reading and focus are not disturbed. */
export function drawDecisions(decisions) {
  const list = document.getElementById("decisions");
  const rows = grouped(decisions);
  const kept = new Set();
  let place = list.firstChild;
  if (rows.length && list.firstChild?.classList?.contains("empty")) list.replaceChildren();
  for (const row of rows) {
    const key = `${row.newest.app}/${row.since}`;
    kept.add(key);
    const made = drawn.get(key) ?? build();
    drawn.set(key, made);
    show(made, row);
    place = place?.parentNode === list ? place : list.firstChild;
    if (made.item === place) place = place.nextSibling;
    else list.insertBefore(made.item, place);
  }
  for (const [key, made] of drawn) {
    if (kept.has(key)) continue;
    made.item.remove();
    drawn.delete(key);
  }
  if (!rows.length && !list.children.length) list.append(h("li", { class: "empty" }, "No decision yet."));
  const newest = rows[0]?.newest;
  say(document.getElementById("policy"), newest ? `policy ${newest.policy}` : "");
}

function build() {
  const parts = {
    change: h("span", { class: "change" }),
    app: h("span", { class: "app" }),
    when: h("time", { class: "when" }),
    reasons: h("ul", { class: "reasons" }),
    otherwise: h("p", { class: "otherwise" }),
  };
  const item = h("li", { class: "decision", "data-testid": "decision-row" },
    h("div", { class: "line" }, parts.change, parts.app, parts.when), parts.reasons, parts.otherwise);
  return { ...parts, item, shown: null };
}

function show(made, { newest, since, count }) {
  const ago = now() - newest.t;
  const repeated = count > 1 ? `${clock(since)} to ${clock(newest.t)}, ${count}×` : `${clock(newest.t)}, ${span(ago)} ago`;
  say(made.when, repeated);
  if (made.shown === newest) return;
  made.shown = newest;
  const up = newest.wanted > newest.previous;
  const down = newest.wanted < newest.previous;
  made.item.dataset.change = up ? "up" : down ? "down" : "hold";
  say(made.change, up || down ? `${up ? "▲" : "▼"} ${newest.previous} → ${newest.wanted}` : `hold ${newest.wanted}`);
  say(made.app, newest.applied || !(up || down) ? newest.app : `${newest.app}, not applied`);
  made.when.setAttribute("datetime", new Date(newest.t * 1000).toISOString());
  made.reasons.replaceChildren(...newest.reasons.map((reason) =>
    h("li", {}, h("span", { class: "code" }, reason.code), ` ${reason.text}`)));
  made.otherwise.hidden = !newest.counterfactual;
  say(made.otherwise, newest.counterfactual ?? "");
}
