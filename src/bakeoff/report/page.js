"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = [];
for (const [id, figure] of Object.entries(figures)) {
  const place = document.getElementById(id);
  Plotly.newPlot(place, figure.data, figure.layout, { displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] });
  plots.push(place);
}
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    for (const place of plots) {
      const mine = place.data.flatMap((trace, i) => (trace.name === button.dataset.arm ? [i] : []));
      if (mine.length) Plotly.restyle(place, { visible: on }, mine);
    }
  });
}
// A window, a frame, an opened section: whatever changes the width of a plot's place.
const watcher = new ResizeObserver((seen) => seen.forEach((one) => one.contentRect.width && Plotly.Plots.resize(one.target)));
plots.forEach((place) => watcher.observe(place));
const resize = () => plots.forEach((place) => Plotly.Plots.resize(place));
window.addEventListener("beforeprint", resize);
window.addEventListener("afterprint", resize);
