// Draws every plot of the island of data below; without scripts the tables still tell all of it.
for (const { id, data, layout } of JSON.parse(document.getElementById("plots").textContent)) {
  Plotly.newPlot(id, data, layout, { responsive: true, displayModeBar: false });
}
