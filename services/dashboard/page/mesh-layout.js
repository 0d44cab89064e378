// Where things stand in the picture of the mesh: two layouts of the same graph, side by side on a wide page and in one
// column on a narrow one. Pure geometry, in CSS pixels.

export const WIDE = 1060;
const NODE = { w: 262, h: 92 };
const CHIP_H = 46;
const HEAD_H = 86;

/** Rows of chips that `slots` replicas need, two in a row. */
function rows(slots) {
  return Math.max(1, Math.ceil(slots / 2));
}

function chips(group, slots) {
  const w = (group.w - 36) / 2;
  return Array.from({ length: slots }, (_, i) => ({
    x: group.x + 12 + (i % 2) * (w + 12),
    y: group.y + HEAD_H + Math.floor(i / 2) * (CHIP_H + 8),
    w,
    h: CHIP_H,
  }));
}

const groupHeight = (slots) => HEAD_H + rows(slots) * (CHIP_H + 8) + 6;

/** Boxes, chip slots and edges for a picture of `width` pixels with room for `slots` replicas. */
export function layout(width, slots) {
  return width >= WIDE ? wide(width, slots) : narrow(width, slots);
}

function wide(width, slots) {
  const groupW = 308;
  const left = 108;
  const gap = (width - left - 2 * NODE.w - groupW - 8) / 2;
  const [a, b, c] = [left, left + NODE.w + gap, width - groupW - 8];
  const group = { x: c, y: 124, w: groupW, h: groupHeight(slots) };
  const top = 58;
  const lane = 226;
  const dashboard = { x: c, y: group.y + group.h + 22, w: groupW, h: 80 };
  const infraY = dashboard.y + dashboard.h - 56;
  const infraW = (b + NODE.w - a - 32) / 3;
  const nodes = {
    gateway: { x: a, y: top, ...NODE },
    routing: { x: b, y: top, ...NODE },
    tokenization: { x: c, y: 8, w: groupW, h: NODE.h },
    predictor: { x: a, y: lane, ...NODE },
    autoscaler: { x: b, y: lane, ...NODE },
    dashboard,
  };
  ["redis", "sentry", "jaeger"].forEach((name, i) => {
    nodes[name] = { x: a + i * (infraW + 16), y: infraY, w: infraW, h: 56, small: true };
  });
  const mid = (box) => box.y + box.h / 2;
  const right = (box) => box.x + box.w;
  const { gateway, routing, tokenization, predictor, autoscaler } = nodes;
  const out = { clients: { x: 26, y: mid(gateway) } };
  const bend = (x1, y1, x2, y2) => {
    const m = (x1 + x2) / 2;
    return `M${x1} ${y1}C${m} ${y1} ${m} ${y2} ${x2} ${y2}`;
  };
  const edge = (kind, from, to, x1, y1, x2, y2, label) => ({
    kind, from, to, label, path: bend(x1, y1, x2, y2), at: { x: (x1 + x2) / 2, y: (y1 + y2) / 2 },
  });
  const edges = [
    edge("request", "clients", "gateway", 48, out.clients.y, gateway.x, out.clients.y),
    edge("request", "gateway", "routing", right(gateway), mid(gateway), routing.x, mid(routing)),
    edge("request", "routing", "tokenization", right(routing), mid(routing) - 14, c, mid(tokenization)),
    edge("request", "routing", "inference", right(routing), mid(routing) + 14, c, group.y + 34),
    edge("event", "predictor", "autoscaler", right(predictor), mid(predictor), autoscaler.x, mid(autoscaler), "forecasts"),
    edge("event", "autoscaler", "dashboard", right(autoscaler), mid(autoscaler) + 16, c, mid(dashboard), "decisions"),
    edge("control", "autoscaler", "inference", right(autoscaler), mid(autoscaler) - 16, c, group.y + group.h - 40, "scale"),
  ];
  const x = a + NODE.w / 2;
  edges.push({
    kind: "event", from: "gateway", to: "predictor", label: "traffic",
    path: `M${x} ${gateway.y + gateway.h}L${x} ${predictor.y}`, at: { x, y: (gateway.y + gateway.h + predictor.y) / 2 },
  });
  const height = Math.max(infraY + 56, dashboard.y + dashboard.h) + 8;
  return { ...out, nodes, group, chips: chips(group, slots), edges, width, height };
}

function narrow(width, slots) {
  const lane = 30;
  const w = Math.min(width - 2 * lane, 420);
  const x = (width - w) / 2;
  const gap = 30;
  let y = 54;
  const nodes = {};
  const place = (name, h = NODE.h) => {
    nodes[name] = { x, y, w, h };
    y += h + gap;
    return nodes[name];
  };
  const gateway = place("gateway");
  const routing = place("routing");
  const tokenization = place("tokenization");
  const group = place("inference", groupHeight(slots));
  delete nodes.inference;
  const autoscaler = place("autoscaler");
  const predictor = place("predictor");
  const dashboard = place("dashboard", 80);
  const third = (w - 16) / 3;
  ["redis", "sentry", "jaeger"].forEach((name, i) => {
    nodes[name] = { x: x + i * (third + 8), y: y - 6, w: third, h: 56, small: true };
  });
  const centre = x + w / 2;
  const down = (kind, from, to, a, b, label) => ({
    kind, from, to, label, path: `M${centre} ${a.y + a.h}L${centre} ${b.y}`, at: { x: centre, y: (a.y + a.h + b.y) / 2 },
  });
  // Edges that skip a box run through the margin: requests on the left, events on the right.
  const around = (kind, from, to, side, y1, y2, label) => {
    const [start, far] = side < 0 ? [x, x - lane + 8] : [x + w, x + w + lane - 8];
    return {
      kind, from, to, label, upright: true,
      path: `M${start} ${y1}C${far} ${y1} ${far} ${y1} ${far} ${(y1 + y2) / 2}S${far} ${y2} ${start} ${y2}`,
      at: { x: far, y: (y1 + y2) / 2 },
    };
  };
  const edges = [
    { kind: "request", from: "clients", to: "gateway", path: `M${centre} 34L${centre} ${gateway.y}`, at: { x: centre + 34, y: 62 } },
    down("request", "gateway", "routing", gateway, routing),
    down("request", "routing", "tokenization", routing, tokenization),
    around("request", "routing", "inference", -1, routing.y + 60, group.y + 40),
    { ...down("control", "autoscaler", "inference", group, autoscaler, "scale"),
      path: `M${centre} ${autoscaler.y}L${centre} ${group.y + group.h}` },
    { ...down("event", "predictor", "autoscaler", autoscaler, predictor, "forecasts"),
      path: `M${centre} ${predictor.y}L${centre} ${autoscaler.y + autoscaler.h}` },
    around("event", "gateway", "predictor", 1, gateway.y + 50, predictor.y + 40, "traffic"),
    around("event", "autoscaler", "dashboard", -1, autoscaler.y + 50, dashboard.y + 40, "decisions"),
  ];
  return {
    clients: { x: centre, y: 18 }, nodes, group, chips: chips(group, slots), edges, width, height: y + 54,
  };
}
