// The mesh as a picture: apps with their identities, replicas that come and go, and what flows between them.

import { countdown, number, s, say, serviceColour } from "./dom.js";
import { layout } from "./mesh-layout.js";
import { attachDetail } from "./mesh-detail.js";
import { now, seconds, state } from "./state.js";

const APPS = ["gateway", "routing", "tokenization", "predictor", "autoscaler", "dashboard"];
const INFRA = { redis: ["events", "events and state"], sentry: ["certificates", "issues certificates"], jaeger: ["traces", "keeps traces"] };
const LOCK = "M-4 -1h8v6h-8zM-2.500 -1v-2a2.500 2.500 0 0 1 5 0v2";
const MAX_SLOTS = 12;
const TONES = { ready: "good", starting: "warn", backoff: "bad", failed: "bad", draining: "info", stopping: "info" };

const tone = (word) => TONES[word] ?? "unknown";
let drawn = { key: "", parts: null };

/** Draw or bring up to date; rebuilt only when the width or the number of places for replicas changes. */
export function drawMesh() {
  const { mesh } = state;
  const host = document.getElementById("mesh");
  const width = Math.floor(host.clientWidth);
  if (!mesh?.processes || width < 200) return;
  const replicas = mesh.scaled?.replicas ?? [];
  const slots = Math.min(MAX_SLOTS, Math.max(2, replicas.length, mesh.scaled?.max ?? 4));
  const key = `${width}/${slots}`;
  if (drawn.key !== key) {
    drawn = { key, parts: build(layout(width, slots), mesh.scaled?.app ?? "inference") };
    host.replaceChildren(drawn.parts.svg);
    attachDetail(drawn.parts.svg, host);
  }
  fillNodes(drawn.parts, mesh);
  fillReplicas(drawn.parts, mesh, replicas);
  fillEdges(drawn.parts, mesh);
}

function build(plan, scaled) {
  const svg = s("svg", {
    viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height,
    role: "group", "aria-label": "Apps of the mesh and what flows between them",
  });
  svg.append(s("defs", {}, ...["request", "event", "control"].map(arrow)));
  const edges = plan.edges.map((edge) => {
    const made = buildEdge(edge);
    svg.append(made.group);
    return made;
  });
  svg.append(clients(plan.clients));
  const nodes = {};
  for (const [name, box] of Object.entries(plan.nodes)) {
    nodes[name] = box.small ? buildInfra(name, box) : buildNode(name, box);
    svg.append(nodes[name].group);
  }
  nodes[scaled] = buildNode(scaled, plan.group);
  const ghosts = plan.chips.map((box) => s("rect", { class: "ghost", ...rect(box), rx: 9 }));
  nodes[scaled].group.append(...ghosts);
  svg.append(nodes[scaled].group, ...edges.map((edge) => edge.over));
  return { svg, nodes, edges, plan, scaled, chips: new Map() };
}

const rect = ({ x, y, w, h }) => ({ x, y, width: w, height: h });

function arrow(kind) {
  return s("marker", {
    id: `arrow-${kind}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse",
  }, s("path", { d: "M0 0 8 4 0 8z", class: `arrow ${kind}` }));
}

function clients({ x, y }) {
  const people = "M-9 8a9 9 0 0 1 18 0zM-4.500 -6a4.500 4.500 0 1 0 9 0a4.500 4.500 0 1 0 -9 0";
  return s("g", { transform: `translate(${x} ${y})`, class: "clients", role: "img", "aria-label": "clients" },
    s("circle", { r: 18 }), s("path", { d: people }));
}

function buildEdge(edge) {
  const line = s("path", { d: edge.path, class: `edge ${edge.kind}`, "marker-end": `url(#arrow-${edge.kind})` });
  const flow = s("path", { d: edge.path, class: `flow ${edge.kind}` });
  const lock = s("g", { class: "lock", transform: `translate(${edge.at.x} ${edge.at.y})`, role: "img", "aria-label": `${edge.from} to ${edge.to}: mTLS observed` },
    s("circle", { r: 10 }), s("path", { d: LOCK }));
  const spot = edge.upright ? `translate(${edge.at.x} ${edge.at.y}) rotate(-90)` : `translate(${edge.at.x} ${edge.at.y})`;
  const label = s("text", { class: `edge-label ${edge.kind}`, transform: spot, dy: edge.kind === "request" ? -16 : 4 }, edge.label ?? "");
  const group = s("g", { class: "edge-group", "data-testid": `mesh-edge-${edge.from}-${edge.to}` }, line, flow);
  return { ...edge, group, line, flow, lock, label, over: s("g", {}, label, lock) };
}

function buildNode(name, box) {
  const left = box.x + 16;
  const parts = {
    dot: s("circle", { class: "dot", cx: left + 4, cy: box.y + 20, r: 4.500 }),
    title: s("text", { class: "title", x: left + 16, y: box.y + 25 }, name),
    side: s("text", { class: "side", x: box.x + box.w - 14, y: box.y + 25 }),
    spiffe: s("text", { class: "spiffe", x: left, y: box.y + 47 }),
    cert: s("text", { class: "cert", x: left, y: box.y + (box.h < 90 ? 67 : 71) }),
  };
  const group = s("g", { class: "node", tabindex: 0, role: "group", "data-testid": `mesh-node-${name}`, "data-app": name },
    s("rect", { class: "card", ...rect(box), rx: 13 }),
    s("rect", { class: "stripe", x: box.x, y: box.y + 14, width: 3, height: box.h - 28, rx: 1.500 }),
    ...Object.values(parts));
  group.style.setProperty("--service", serviceColour(name));
  return { ...parts, group, box };
}

function buildInfra(name, box) {
  const parts = {
    dot: s("circle", { class: "dot", cx: box.x + 16, cy: box.y + 20, r: 4 }),
    title: s("text", { class: "title", x: box.x + 28, y: box.y + 24.500 }, name),
    memory: s("text", { class: "memory", x: box.x + box.w - 12, y: box.y + 24 }),
    about: s("text", { class: "about", x: box.x + 16, y: box.y + 43 }, INFRA[name][box.w < 150 ? 0 : 1]),
  };
  const group = s("g", { class: "node infra", tabindex: 0, role: "group", "data-testid": `mesh-node-${name}`, "data-app": name },
    s("rect", { class: "card", ...rect(box), rx: 11 }), ...Object.values(parts));
  return { ...parts, group, box };
}

function fillNodes(parts, mesh) {
  for (const name of [...APPS, parts.scaled, ...Object.keys(INFRA)]) {
    const node = parts.nodes[name];
    if (!node) continue;
    const own = mesh.processes.filter((p) => p.app_id === name || p.name === name);
    const word = mesh.reachable ? worst(own, name === parts.scaled) : "unknown";
    node.group.dataset.state = tone(word);
    const memory = own.reduce((sum, p) => sum + (p.pss_mb ?? 0), 0);
    const identity = soonest(mesh.identities.filter((one) => one.app_id === name));
    const said = [name, word];
    if (node.memory && node.box.w > 150) say(node.memory, memory ? `${number(memory)} MB` : "");
    if (node.cert) {
      const many = name === parts.scaled ? (mesh.scaled?.ready ?? own.length / 2) : 0;
      say(node.side, many ? `×${many}, ${number(memory)} MB` : memory ? `${number(memory)} MB` : word);
      say(node.spiffe, identity?.spiffe_id ? shorten(identity.spiffe_id, node.box.w - 32) : "no identity seen");
      certificate(node, identity);
      said.push(identity?.spiffe_id ?? "no identity", node.cert.textContent);
    }
    node.group.setAttribute("aria-label", said.join(", "));
  }
}

function worst(processes, scaled) {
  if (!processes.length) return "unknown";
  const order = ["backoff", "failed", "stopped", "starting", "draining", "stopping", "ready"];
  const words = processes.map((p) => p.state);
  // A replica that is still starting does not make the app unready: the others serve.
  if (scaled && words.includes("ready")) return "ready";
  return order.find((word) => words.includes(word)) ?? words[0];
}

const soonest = (identities) => identities.reduce((a, b) => (a && a.not_after < b.not_after ? a : b), undefined);

function shorten(text, width) {
  const room = Math.floor(width / 6.020);
  return text.length <= room ? text : `${text.slice(0, room - 1)}…`;
}

/** The countdown; a certificate that was exchanged since the last look is pointed out for some seconds. */
function certificate(node, identity) {
  if (!identity?.not_after) {
    say(node.cert, "");
    return;
  }
  const left = identity.not_after - now();
  if (node.notAfter && identity.not_after > node.notAfter + 1) node.renewedAt = now();
  node.notAfter = identity.not_after;
  const fresh = node.renewedAt && now() - node.renewedAt < 6;
  say(node.cert, left <= 0 ? "certificate expired" : `certificate expires in ${countdown(left)}${fresh ? ", renewed" : ""}`);
  node.cert.dataset.state = left <= 0 ? "bad" : fresh ? "good" : "";
}

function fillReplicas(parts, mesh, replicas) {
  const shown = replicas.slice(0, parts.plan.chips.length);
  for (const [name, chip] of parts.chips) {
    if (shown.some((one) => one.instance === name)) continue;
    chip.group.classList.add("leaving");
    parts.chips.delete(name);
    setTimeout(() => chip.group.remove(), 400);
  }
  shown.forEach((replica, i) => {
    let chip = parts.chips.get(replica.instance);
    if (!chip || chip.slot !== i) {
      chip?.group.remove();
      chip = { ...buildChip(replica.instance, parts.plan.chips[i]), slot: i };
      parts.chips.set(replica.instance, chip);
      parts.nodes[parts.scaled].group.append(chip.group);
    }
    const identity = mesh.identities.find((one) => one.instance === replica.instance);
    const busy = replica.cpu_utilisation;
    const left = identity?.not_after ? countdown(identity.not_after - now()) : "";
    chip.group.dataset.state = tone(replica.state);
    say(chip.side, replica.state === "ready" ? left || "ready" : replica.state);
    chip.bar.setAttribute("width", String(Math.max(0, Math.min(1, busy ?? 0)) * chip.room));
    const cpu = busy === null || busy === undefined ? "" : `, ${Math.round(100 * busy)} % of its CPU quota`;
    chip.group.setAttribute("aria-label", `${replica.instance}, ${replica.state}${cpu}`);
    say(chip.title, `${replica.instance}: ${replica.state}${cpu}${left ? `, certificate ${left}` : ""}`);
  });
}

function buildChip(name, box) {
  const room = box.w - 76;
  const side = s("text", { class: "side small", x: box.x + box.w - 11, y: box.y + box.h - 10 });
  const bar = s("rect", { class: "busy", x: box.x + 12, y: box.y + box.h - 16, width: 0, height: 4, rx: 2 });
  const title = s("title");
  const group = s("g", { class: "chip", role: "img", "data-testid": `mesh-replica-${name}` }, title,
    s("rect", { class: "card", x: box.x, y: box.y, width: box.w, height: box.h, rx: 9 }),
    s("circle", { class: "dot", cx: box.x + 15, cy: box.y + 15.500, r: 3.500 }),
    s("text", { class: "name", x: box.x + 25, y: box.y + 19.500 }, name),
    side,
    s("rect", { class: "rail", x: box.x + 12, y: box.y + box.h - 16, width: room, height: 4, rx: 2 }),
    bar);
  return { group, side, bar, title, room };
}

function fillEdges(parts, mesh) {
  const last = seconds(now() - 5).at(-1);
  const rate = mesh.reachable ? (last?.arrivals ?? 0) : 0;
  for (const edge of parts.edges) {
    const ends = [edge.from, edge.to].map((app) => mesh.identities.filter((one) => one.app_id === app));
    const locked = edge.kind === "request" && ends.every((all) => all.length && all.every((one) => one.mtls));
    edge.lock.toggleAttribute("hidden", !locked);
    edge.lock.style.display = locked ? "" : "none";
    const moving = edge.kind === "request" ? rate > 0 : Boolean(last) && edge.kind === "event";
    edge.flow.style.display = moving ? "" : "none";
    // Faster as the rate rises, within what an eye can follow.
    const pace = edge.kind === "request" ? Math.max(1.4, 3 - 0.6 * Math.log10(1 + rate)) : 4;
    edge.flow.style.animationDuration = `${pace.toFixed(1)}s`;
    if (edge.from === "clients") say(edge.label, rate ? `${number(rate)}/s` : "");
  }
}
