"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const lightOnly = document.documentElement.classList.contains("light");
const MAX_PRINTED_HEIGHT = 780; // pixels of a figure that fits on a printed page, with the heading of its section
let printing = false; // the page is then white
// Colours of text and grid follow the page; the near-black line of a series turns light in dark mode.
const IN_THE_DARK = { "#1c1e21": "#e8eaed", "#333333": "#cfd3d9", "#dfe2e6": "#34393f", "rgba(51,51,51,0.15)": "rgba(207,211,217,0.18)" };
const themed = (spec) => (dark.matches && !printing && !lightOnly
  ? JSON.parse(JSON.stringify(spec).replace(/"(#1c1e21|#333333|#dfe2e6|rgba\(51,51,51,0\.15\))"/g, (_, colour) => `"${IN_THE_DARK[colour]}"`))
  : spec);
const plots = [...document.querySelectorAll(".plot")];
const specs = new Map(plots.map((place) => [place, JSON.parse(place.closest("figure").querySelector("script").textContent)]));
const visible = new Map(); // series name -> whether the reader wants to see it
const shorten = (name) => (name.length > 20 && !name.includes("&") ? `${name.slice(0, 8)}…${name.slice(-11)}` : name);
// On a phone, long names leave room for the plot, and cells too narrow for their number stay empty.
function fit(spec, width) {
  const fitted = { data: spec.data.map((trace) => ({ ...trace })), layout: JSON.parse(JSON.stringify(spec.layout)) };
  for (const axis of [fitted.layout.xaxis, fitted.layout.yaxis]) if (width < 480 && axis?.ticktext) axis.ticktext = axis.ticktext.map(shorten);
  for (const trace of fitted.data) {
    if (trace.type !== "heatmap") continue;
    const room = (width - 110) / (trace.x || trace.z[0]).length;
    if (room < 38) delete trace.texttemplate;
    if (room < 11) fitted.layout.xaxis.showticklabels = false; // the columns are in the order of the rows
  }
  return fitted;
}
function draw(place) {
  const spec = specs.get(place), { data, layout } = fit(themed(spec), place.clientWidth);
  layout.height = Math.min(layout.height, printing ? MAX_PRINTED_HEIGHT : Infinity);
  place.style.height = `${layout.height}px`;
  for (const trace of data) if (visible.has(trace.name)) trace.visible = visible.get(trace.name);
  const options = { displaylogo: false, responsive: false, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };
  if (!layout.modebar) options.displayModeBar = false;
  const drawing = (place.drawn ? Plotly.react : Plotly.newPlot)(place, data, layout, options);
  if (spec.frames && !place.drawn) drawing.then(() => Plotly.addFrames(place, spec.frames));
  place.drawn = true;
}
// One at a time, from the top down, so that the page answers from the start.
const queue = [...plots];
function drawNext() {
  const place = queue.shift();
  if (!place) return document.documentElement.setAttribute("data-drawn", "");
  if (!place.drawn) draw(place);
  setTimeout(drawNext);
}
drawNext();
const buttons = [...document.querySelectorAll(".legend button[data-name]")];
const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const first = new Set(buttons.filter(pressed).map((button) => button.dataset.name));
function show(changes) {
  for (const [name, on] of changes) visible.set(name, on);
  for (const button of buttons) if (visible.has(button.dataset.name)) button.setAttribute("aria-pressed", String(visible.get(button.dataset.name)));
  for (const place of plots) {
    if (!place.drawn) continue;
    for (const on of [true, false]) {
      const traces = place.data.flatMap((trace, i) => (changes.get(trace.name) === on ? [i] : []));
      if (traces.length) Plotly.restyle(place, { visible: on }, traces);
    }
  }
}
for (const button of buttons) button.addEventListener("click", () => show(new Map([[button.dataset.name, !pressed(button)]])));
for (const button of document.querySelectorAll(".legend .set")) {
  const wanted = { all: () => true, none: () => false, first: (name) => first.has(name) }[button.dataset.set];
  button.addEventListener("click", () => show(new Map(buttons.map(({ dataset }) => [dataset.name, wanted(dataset.name)]))));
}
// A window, a frame, an opened section: whatever changes the width of a plot's place.
const watcher = new ResizeObserver((entries) => entries.forEach(({ contentRect, target }) => contentRect.width && target.drawn && Plotly.Plots.resize(target)));
plots.forEach((place) => watcher.observe(place));
const redraw = () => plots.forEach(draw);
dark.addEventListener("change", redraw);
const print = (on) => { printing = on; redraw(); plots.forEach((place) => Plotly.Plots.resize(place)); };
window.addEventListener("beforeprint", () => print(true));
window.addEventListener("afterprint", () => print(false));
// A frame without leave to download (as the MLflow pages have it) shows the numbers instead.
if (window.self !== window.top) {
  const box = document.body.appendChild(document.createElement("dialog"));
  box.innerHTML = "<form method=dialog><button>close</button></form><pre></pre>";
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a.data");
    if (!link) return;
    event.preventDefault();
    const stream = new Blob([Uint8Array.from(atob(link.href.split(",")[1]), (char) => char.charCodeAt(0))]).stream();
    box.querySelector("pre").textContent = await new Response(link.download.endsWith(".gz") ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).text();
    box.showModal();
  });
}
