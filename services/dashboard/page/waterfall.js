// One request as a waterfall: a bar per span, placed by time, indented by parent, coloured by service.

import { clock, h, milliseconds, serviceColour } from "./dom.js";

const AGAIN_MS = 1500;
const TRIES = 4;
let shown = "";

/** Open `dialog` on the trace `id`. Spans arrive late: an incomplete trace is read again a few times. */
export async function showTrace(dialog, id, load) {
  shown = id;
  frame(dialog, id, h("p", { class: "wait" }, "Reading the trace…"));
  if (!dialog.open) dialog.showModal();
  for (let attempt = 1; attempt <= TRIES && shown === id && dialog.open; attempt += 1) {
    try {
      const trace = await load();
      if (shown !== id) return;
      frame(dialog, id, ...draw(trace));
      if (trace.complete) return;
    } catch (error) {
      frame(dialog, id, h("p", { class: "wait" }, error.message));
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

function frame(dialog, id, ...content) {
  const close = h("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    h("header", {}, h("div", {}, h("h2", { id: "waterfall-title" }, "Trace"), h("code", { class: "id" }, id)), close),
    h("div", { class: "body" }, ...content));
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
}

function draw(trace) {
  const total = Math.max(trace.duration_ms, 0.001);
  const linked = new Set(trace.spans.filter((span) => span.linked).map((span) => span.span_id));
  const facts = [
    ["took", milliseconds(trace.duration_ms)], ["at", clock(trace.started_at)], ["spans", String(trace.spans.length)],
    ["errors", String(trace.errors)],
  ];
  if (trace.left_out) facts.push(["not shown", `${trace.left_out} spans`]);
  return [
    h("dl", { class: "facts" }, ...facts.map(([term, fact]) => h("div", {}, h("dt", {}, term), h("dd", {}, fact)))),
    h("ul", { class: "services", "aria-label": "Services" }, ...[...new Set(trace.spans.map((span) => span.service))].map(service)),
    h("div", { class: "rows" }, ruler(total), h("ol", {}, ...trace.spans.map((span) => row(span, total, span.linked && !linked.has(span.parent_id))))),
  ];
}

function service(name) {
  const swatch = h("span", { class: "swatch" });
  swatch.style.background = serviceColour(name);
  return h("li", {}, swatch, name);
}

function ruler(total) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const tick = h("span", {}, part ? milliseconds(part * total) : "0");
    tick.style.left = `${100 * part}%`;
    return tick;
  });
  return h("div", { class: "ruler", "aria-hidden": "true" }, h("div", { class: "scale" }, ...ticks));
}

function row(span, total, joins) {
  const marks = [];
  if (span.sidecar) marks.push(["sidecar", "span of the Dapr sidecar"]);
  if (joins) marks.push(["shared", "from here on: the call that this request shared with others"]);
  if (span.orphan) marks.push(["orphan", "its parent has not arrived"]);
  if (span.error) marks.push(["error", "this span failed"]);
  if (span.skew_ms) marks.push(["clock", `clock put right by ${milliseconds(Math.abs(span.skew_ms))}`]);
  const label = h("span", { class: "label" },
    h("span", { class: "name" }, span.service), h("span", { class: "operation" }, span.operation),
    ...marks.map(([mark, why]) => h("span", { class: `mark ${mark}`, title: why }, mark)));
  label.style.setProperty("--depth", String(Math.min(span.depth, 12)));
  const lane = h("span", { class: "lane" }, ...bar(span, total));
  const summary = h("summary", {
    "data-testid": "waterfall-bar", "data-service": span.service,
    "aria-label": `${span.service}, ${span.operation}, starts at ${milliseconds(span.start_ms)}, takes ${milliseconds(span.duration_ms)}${span.error ? ", failed" : ""}`,
  }, label, lane);
  summary.title = `${span.service} · ${span.operation}\nstarts at ${milliseconds(span.start_ms)}, takes ${milliseconds(span.duration_ms)}`;
  const item = h("li", { "data-error": span.error }, h("details", {}, summary, tags(span)));
  item.style.setProperty("--service", serviceColour(span.service));
  return item;
}

function bar(span, total) {
  const left = (100 * span.start_ms) / total;
  const width = (100 * span.duration_ms) / total;
  const drawn = h("span", { class: `bar${span.sidecar ? " sidecar" : ""}${span.linked ? " linked" : ""}` });
  drawn.style.left = `${left}%`;
  drawn.style.width = `${width}%`;
  const took = h("span", { class: "took" }, milliseconds(span.duration_ms));
  // Beside the bar where there is room, else before it.
  if (left + width < 84) took.style.left = `${left + width}%`;
  else if (left > 16) took.style.right = `${100 - left}%`;
  else took.style.setProperty("--from", `${left}%`);
  took.classList.toggle("inside", left + width >= 84 && left <= 16);
  return [drawn, took];
}

function tags(span) {
  const known = Object.entries({
    instance: span.instance, kind: span.kind, "starts at": milliseconds(span.start_ms), takes: milliseconds(span.duration_ms),
    span: span.span_id, ...span.tags,
  }).filter(([, value]) => value);
  return h("dl", { class: "tags" }, ...known.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, String(value)))));
}
