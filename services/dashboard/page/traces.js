// The list of recent traces, asked for every few seconds while the page is looked at. A click opens the waterfall.
// While somebody points at the list it stands still: under load twenty rows are replaced at a time, under the click.

import { clock, h, milliseconds, say, serviceColour } from "./dom.js";
import { showTrace } from "./waterfall.js";

const EVERY_MS = 5000;
const AFTER_ERROR_MS = 20000;
const LIMIT = 20;
const TIMEOUT_MS = 8000;

/** GET JSON from this dashboard; throws an Error with the problem's own words. */
async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), headers: { accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? `status ${answer.status}`);
  return body;
}

/** Keep `list` up to date, and open traces in `dialog`; the address bar's `#trace=<id>` opens one, too. `note` says
 *  when the list stands still. */
export function startTraces(list, dialog, note) {
  const held = () => list.querySelector("[data-trace-id]") && (list.matches(":hover") || list.querySelector(":focus-visible"));
  const sayHeld = () => say(note, held() ? "held while you point at it" : "click one for its waterfall");
  for (const kind of ["pointerenter", "pointerleave", "focusin", "focusout"]) list.addEventListener(kind, sayHeld);
  const open = (id) => showTrace(dialog, id, () => get(`/api/traces/${id}`));
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[data-trace-id]");
    if (row) location.hash = `trace=${row.dataset.traceId}`;
  });
  const follow = () => {
    const id = /^#trace=([0-9a-f]{16,32})$/.exec(location.hash)?.[1];
    if (id) open(id);
    else if (dialog.open) dialog.close();
  };
  addEventListener("hashchange", follow);
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname));
  follow();

  const refresh = async () => {
    let pause = EVERY_MS;
    sayHeld();
    if (!document.hidden && !held()) {
      try {
        const { traces } = await get(`/api/traces?limit=${LIMIT}`);
        if (!held()) draw(list, traces);
      } catch (error) {
        pause = AFTER_ERROR_MS;
        if (!list.querySelector("[data-trace-id]")) list.replaceChildren(h("li", { class: "empty" }, error.message));
      }
    }
    setTimeout(refresh, pause);
  };
  refresh();
}

function draw(list, traces) {
  if (!traces.length) {
    list.replaceChildren(h("li", { class: "empty" }, "No trace yet: only a share of the requests is traced."));
    return;
  }
  const longest = Math.max(...traces.map((one) => one.duration_ms), 0.001);
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = traces.map((one) => old.get(one.trace_id) ?? build(one));
  items.forEach((item, i) => update(item, traces[i], longest));
  // Rows are moved, not made anew: the one with the focus keeps it.
  items.forEach((item, i) => {
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
  });
  while (list.children.length > items.length) list.lastChild.remove();
}

function build(one) {
  return h("li", { "data-key": one.trace_id },
    h("button", { type: "button", class: "trace", "data-testid": "trace-row", "data-trace-id": one.trace_id },
      h("span", { class: "line" }, h("span", { class: "operation" }, one.operation), h("span", { class: "took" })),
      h("span", { class: "length" }, h("span", { class: "fill" })),
      h("span", { class: "line small" }, h("span", { class: "about" }), h("span", { class: "dots" }))));
}

function update(item, one, longest) {
  const find = (name) => item.querySelector(`.${name}`);
  say(find("took"), milliseconds(one.duration_ms));
  say(find("about"), `${clock(one.started_at)}, ${one.spans} spans${one.errors ? `, ${one.errors} errors` : ""}`);
  item.firstChild.dataset.state = one.errors ? "bad" : "good";
  item.firstChild.setAttribute("aria-label",
    `Trace ${one.operation} at ${clock(one.started_at)}, ${milliseconds(one.duration_ms)}, ${one.spans} spans, ${one.errors} errors`);
  find("fill").style.width = `${Math.max(1.5, (100 * one.duration_ms) / longest)}%`;
  const dots = find("dots");
  if (dots.children.length === one.services.length) return;
  dots.replaceChildren(...one.services.map((service) => {
    const dot = h("span", { class: "dot", title: service });
    dot.style.background = serviceColour(service);
    return dot;
  }));
}
