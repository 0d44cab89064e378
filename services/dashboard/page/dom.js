// Elements and texts. Whatever comes from the mesh goes through textContent or setAttribute, never through markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; children are nodes or strings (strings become text). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Change a text only when it differs: a live region that is written again is read out again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A number for a narrow place: 1234.5 -> "1,235", 12.34 -> "12.3". */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 1;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** Milliseconds with a unit that fits: 0.4 ms, 12.3 ms, 1.24 s. */
export function milliseconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** Seconds as a countdown: 59:07, 23:59:59. */
export function countdown(seconds) {
  const left = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(left / 3600);
  const rest = `${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** Seconds as people say them: 8 s, 3 min, 2 h. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** Wall clock of an epoch time, in the reader's time zone. */
export function clock(epoch) {
  return new Date(epoch * 1000).toLocaleTimeString("en-GB", { hour12: false });
}

/** The value of a custom property of the page's style, such as "--request". */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const SERVICES = ["gateway", "routing", "tokenization", "inference", "predictor", "autoscaler", "dashboard"];

/** The custom property with the colour of a service; strangers share the ones that are left. */
export function serviceColour(service) {
  const known = SERVICES.indexOf(service);
  if (known >= 0) return `var(--service-${known})`;
  let sum = 0;
  for (const letter of service) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return `var(--service-${7 + (sum % 3)})`;
}
