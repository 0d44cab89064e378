// The box with everything known about one app; it opens for a pointer and for the keyboard alike.

import { clock, h, number, span } from "./dom.js";
import { state } from "./state.js";

/** Show details of the node under the pointer or with the focus; Escape closes them. */
export function attachDetail(svg, host) {
  const box = document.getElementById("mesh-detail");
  const open = (event) => {
    const node = event.target.closest?.(".node");
    if (!node || !state.mesh) return;
    box.replaceChildren(...content(node.dataset.app));
    box.hidden = false;
    node.setAttribute("aria-describedby", "mesh-detail");
    place(box, node.getBoundingClientRect(), host);
  };
  const close = () => {
    box.hidden = true;
  };
  svg.addEventListener("pointerover", open);
  svg.addEventListener("focusin", open);
  svg.addEventListener("pointerleave", close);
  svg.addEventListener("focusout", close);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}

function place(box, node, host) {
  const panel = host.parentElement.getBoundingClientRect();
  const below = node.bottom - panel.top + 8;
  const left = Math.min(node.left - panel.left, panel.width - box.offsetWidth - 8);
  box.style.left = `${Math.max(8, left)}px`;
  box.style.top = `${below}px`;
}

function content(app) {
  const { processes, identities } = state.mesh;
  const own = processes.filter((p) => p.app_id === app || p.name === app);
  const rows = own.map((p) =>
    h("tr", {},
      h("th", { scope: "row" }, p.name), h("td", {}, p.state ?? ""),
      h("td", {}, `up ${span(p.uptime_s ?? 0)}`), h("td", {}, `${number(p.pss_mb)} MB`),
      h("td", {}, p.restarts ? `${p.restarts} restarts` : "no restarts")));
  const named = identities.filter((one) => one.app_id === app);
  const names = [...new Set(named.map((one) => one.spiffe_id ?? ""))].map((id) => h("p", {}, h("code", {}, id)));
  const lines = named.map((one) =>
    h("p", {}, `${one.instance}: ${one.mtls ? "mTLS observed" : "no mTLS observed"}, certificate until ${clock(one.not_after)}`));
  return [h("h3", {}, app), ...names, ...lines, h("table", {}, h("tbody", {}, ...rows))];
}
