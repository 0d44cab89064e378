// The three charts over one time axis. plotly.js is large and arrives when it arrives; until then nothing is drawn.

import { clock, colour, milliseconds, number } from "./dom.js";
import { now, seconds, state } from "./state.js";

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: false, showTips: false };
const MARGIN = { l: 46, r: 14, t: 8, b: 26 };
const STEPS_MS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const LOGARITHMIC = {
  type: "log", rangemode: "normal", tickvals: STEPS_MS, ticktext: STEPS_MS.map((ms) => (ms < 1000 ? `${ms} ms` : `${ms / 1000} s`)),
};
const SOLID = { width: 2, shape: "linear" };
let palette = null;

/** Read the colours again: the reader switched between dark and light. */
export function forgetColours() {
  palette = null;
}

/** Draw what the window shows; when nothing new came, only the time axes move. */
export function drawCharts(windowS, changed) {
  if (!window.Plotly) return;
  palette ??= readColours();
  const range = timeRange(windowS);
  if (!changed) {
    for (const id of ["chart-rate", "chart-replicas", "chart-latency"]) {
      const chart = document.getElementById(id);
      if (chart.data) window.Plotly.relayout(chart, { "xaxis.range": range.map(axis), shapes: nowLine() });
    }
    return;
  }
  const inside = seconds(range[0] - 5);
  drawRate(inside, range);
  drawReplicas(range);
  drawLatency(inside, range);
}

function readColours() {
  const names = ["text", "muted", "grid", "panel", "request", "event", "control", "good", "warn", "bad", "info", "line"];
  const found = Object.fromEntries(names.map((name) => [name, colour(`--${name}`)]));
  return { ...found, font: getComputedStyle(document.body).fontFamily };
}

/** `hex` with an opacity. */
function faint(hex, opacity) {
  return `${hex}${Math.round(opacity * 255).toString(16).padStart(2, "0")}`;
}

/** Plotly shows numbers as UTC: shift them so that the reader's own clock is on the axis. */
function axis(epoch) {
  return (epoch - new Date(epoch * 1000).getTimezoneOffset() * 60) * 1000;
}

/** From the first thing known, but at most the window back, to the end of the forecast or a quarter of the past. */
function timeRange(windowS) {
  const at = now();
  const first = state.traffic[0]?.t ?? state.replicas[0]?.t ?? at;
  const past = Math.min(windowS, Math.max(60, at - first + 3));
  const ahead = Math.max(5, (state.forecast?.t.at(-1) ?? at) - at);
  return [at - past, at + Math.min(ahead, past * 0.45)];
}

function nowLine() {
  const x = axis(now());
  return [{ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: palette.muted, width: 1, dash: "dot" } }];
}

function chartLayout(chart, range, yaxis) {
  const grid = { gridcolor: palette.grid, zeroline: false, linecolor: palette.line, tickfont: { color: palette.muted } };
  return {
    width: chart.clientWidth, height: chart.clientHeight, margin: MARGIN, showlegend: false, hovermode: "x unified",
    dragmode: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: palette.panel, shapes: nowLine(),
    font: { family: palette.font, size: 11, color: palette.muted },
    hoverlabel: { bgcolor: palette.panel, bordercolor: palette.line, font: { color: palette.text, size: 12 } },
    xaxis: { ...grid, type: "date", range: range.map(axis), fixedrange: true, showgrid: false, spikecolor: palette.muted, spikethickness: 1, spikedash: "solid", hoverformat: "%H:%M:%S", tickformat: chart.clientWidth < 500 ? "%H:%M" : "%H:%M:%S", nticks: Math.max(4, Math.floor(chart.clientWidth / 110)) },
    yaxis: { ...grid, fixedrange: true, rangemode: "tozero", nticks: 5, ...yaxis },
  };
}

function plot(id, traces, range, yaxis, label) {
  const chart = document.getElementById(id);
  chart.setAttribute("aria-label", label);
  return window.Plotly.react(chart, traces, chartLayout(chart, range, yaxis), CONFIG).then(() => chart);
}

function band(points, fillColour, name) {
  return {
    x: [...points.map((p) => axis(p.t)), ...points.map((p) => axis(p.t)).reverse()],
    y: [...points.map((p) => p.q95), ...points.map((p) => p.q05).reverse()],
    mode: "lines", fill: "toself", fillcolor: fillColour, line: { width: 0 }, hoverinfo: "skip", name, meta: name,
  };
}

/** The newest forecast as points, fanning out of the level that it starts from. */
function future() {
  const f = state.forecast;
  if (!f) return [];
  const start = { t: f.issued_at, q05: f.level_rps, q50: f.level_rps, q95: f.level_rps };
  const ahead = f.t.map((t, i) => ({ t, q05: f.q05[i], q50: f.q50[i], q95: f.q95[i] }));
  return [start, ...ahead];
}

async function drawRate(inside, range) {
  const x = inside.map((one) => axis(one.t));
  const past = state.lead.filter((p) => p.t >= range[0] - 30 && p.t <= now() + 5).sort((a, b) => a.t - b.t);
  const ahead = future();
  const median = (points, opacity) => ({
    x: points.map((p) => axis(p.t)), y: points.map((p) => p.q50), mode: "lines", name: "forecast",
    line: { ...SOLID, width: 1.6, color: faint(palette.event, opacity), dash: "dash" }, customdata: points.map((p) => [p.q05, p.q95]),
    hovertemplate: "%{y:.0f} (%{customdata[0]:.0f} to %{customdata[1]:.0f})<extra>forecast</extra>",
  });
  const line = (field, name, style) => ({
    x, y: inside.map((one) => one[field]), mode: "lines", name, hovertemplate: `%{y:.0f}<extra>${name}</extra>`, ...style,
  });
  const lost = inside.filter((one) => one.shed + one.failed > 0);
  const traces = [
    line("answered", "answered", { fill: "tozeroy", fillcolor: faint(palette.request, 0.16), line: { width: 0 } }),
    band(past, faint(palette.event, 0.16), "forecast-band-past"),
    band(ahead, faint(palette.event, 0.3), "forecast-band"),
    median(past, 0.75),
    median(ahead, 1),
    line("arrivals", "arrived", { line: { ...SOLID, width: 2.2, color: palette.request } }),
    {
      type: "bar", name: "lost", x: lost.map((one) => axis(one.t)), y: lost.map((one) => one.shed + one.failed), width: 1000,
      marker: { color: faint(palette.warn, 0.8) }, hovertemplate: "%{y:.0f}<extra>shed or failed</extra>",
    },
  ];
  const at = inside.at(-1);
  const next = state.lead.at(-1);
  const label = `Requests per second: ${number(at?.arrivals)} now` +
    (next ? `; forecast ${number(next.q50)}, between ${number(next.q05)} and ${number(next.q95)}, for ${clock(next.t)}` : "");
  name(await plot("chart-rate", traces, range, {}, label), traces);
}

/** Give the filled areas stable names: plotly makes their elements anew when it likes. */
function name(chart, traces) {
  const groups = chart.querySelectorAll(".scatterlayer .trace");
  chart.calcdata?.forEach((calculated, i) => {
    const { meta } = traces[calculated[0].trace.index] ?? {};
    if (meta) groups[i]?.querySelector(".js-fill")?.setAttribute("data-testid", meta);
  });
}

function drawReplicas(range) {
  const points = state.replicas.filter((p) => p.t >= range[0] - 30);
  // What holds now goes on until now.
  if (points.length) points.push({ ...points.at(-1), t: now() });
  const x = points.map((p) => axis(p.t));
  const step = (field, title, style) => ({
    x, y: points.map((p) => p[field]), mode: "lines", name: title, hovertemplate: `%{y}<extra>${title}</extra>`, ...style,
  });
  const traces = [
    step("ready", "ready", { line: { width: 2, shape: "hv", color: palette.info }, fill: "tozeroy", fillcolor: faint(palette.info, 0.2) }),
    step("wanted", "wanted", { line: { width: 2, shape: "hv", color: palette.control, dash: "dot" } }),
  ];
  const most = Math.max(2, ...points.map((p) => Math.max(p.wanted, p.ready)));
  const last = points.at(-1);
  return plot("chart-replicas", traces, range, { range: [0, most + 0.4], dtick: Math.ceil(most / 5) },
    last ? `Replicas: ${last.ready} ready of ${last.wanted} wanted` : "Replicas: nothing known yet");
}

function drawLatency(inside, range) {
  const x = inside.map((one) => axis(one.t));
  const line = (field, title, shade, width) => ({
    x, y: inside.map((one) => one[field]), mode: "lines", name: title, connectgaps: false,
    line: { ...SOLID, width, color: shade }, hovertemplate: `%{y:.1f} ms<extra>${title}</extra>`,
  });
  const traces = [
    line("p99_ms", "p99", palette.bad, 1.4),
    line("p95_ms", "p95", palette.warn, 1.8),
    line("p50_ms", "p50", palette.good, 2),
  ];
  const last = inside.filter((one) => one.p50_ms !== null).at(-1);
  const said = last ? `p50 ${milliseconds(last.p50_ms)}, p95 ${milliseconds(last.p95_ms)}, p99 ${milliseconds(last.p99_ms)}` : "nothing finished yet";
  return plot("chart-latency", traces, range, LOGARITHMIC, `Latency: ${said}`);
}
