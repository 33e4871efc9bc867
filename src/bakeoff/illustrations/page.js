"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const [id, figure] of Object.entries(figures)) {
  const place = document.getElementById(id);
  const config = { displaylogo: false, displayModeBar: false };
  Plotly.newPlot(place, figure.data, figure.layout, config).then(() => figure.frames && Plotly.addFrames(place, figure.frames));
  // A window, a frame, an opened section: whatever changes the width of a plot's place.
  new ResizeObserver(([seen]) => seen.contentRect.width && Plotly.Plots.resize(place)).observe(place);
}
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    for (const place of document.querySelectorAll(".plot")) {
      const mine = place.data.flatMap((trace, i) => (trace.name === button.dataset.name ? [i] : []));
      if (mine.length) Plotly.restyle(place, { visible: on }, mine);
    }
  });
}
