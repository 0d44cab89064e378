// Puts the page together: the stream fills the state, and the parts draw it at most once a second.

import { drawCharts, forgetColours } from "./charts.js";
import { drawDecisions } from "./decisions.js";
import { say } from "./dom.js";
import { drawMesh } from "./mesh.js";
import { restore, state, update } from "./state.js";
import { connect } from "./stream.js";
import { drawTiles } from "./tiles.js";
import { startTraces } from "./traces.js";

const byId = (id) => document.getElementById(id);
let dirty = true;
let frame = 0;

function showConnection(kind, text) {
  const pill = byId("connection");
  pill.dataset.state = kind;
  say(pill, text);
}

function windowSeconds() {
  return Number(document.querySelector("input[name=window]:checked").value);
}

/** The cheap parts, as soon as something arrives, but once per frame. */
function drawSoon() {
  dirty = true;
  if (frame || document.hidden) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    drawTiles(windowSeconds());
    drawDecisions(state.decision);
  });
}

/** Everything: countdowns run on even when nothing arrives. */
function drawAll() {
  if (document.hidden) return;
  drawTiles(windowSeconds());
  drawMesh();
  drawDecisions(state.decision);
  drawCharts(windowSeconds(), dirty);
  dirty = false;
}

connect((kind, data) => {
  if (kind === "history") restore(data);
  else update(kind, data);
  if (kind === "history") drawAll();
  else drawSoon();
}, showConnection);

setInterval(drawAll, 1000);
startTraces(byId("traces"), byId("waterfall"), byId("traces-note"));

for (const choice of document.querySelectorAll("input[name=window]")) {
  choice.addEventListener("change", () => {
    dirty = true;
    drawAll();
  });
}
document.addEventListener("visibilitychange", drawAll);
byId("plotly").addEventListener("load", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forgetColours();
  dirty = true;
  drawAll();
});
new ResizeObserver(() => {
  dirty = true;
  drawAll();
}).observe(byId("main"));
