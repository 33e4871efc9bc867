"use strict";
const told = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let paper = false; // while printing the page is white
const SHEET = 780; // pixels of a figure that stays whole on a printed page, with the head of its section
const plots = [];
// Colours of text and grid follow the page; an arm's near-black line turns light in the dark.
const SWAP = { "#1c1e21": "#e8eaed", "#333333": "#cfd3d9", "#dfe2e6": "#34393f", "rgba(51,51,51,0.15)": "rgba(207,211,217,0.18)" };
const themed = (figure) => (dark.matches && !paper
  ? JSON.parse(JSON.stringify(figure).replace(/"(#1c1e21|#333333|#dfe2e6|rgba\(51,51,51,0\.15\))"/g, (_, colour) => `"${SWAP[colour]}"`))
  : figure);
const options = { displaylogo: false, responsive: false, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };
const pressed = new Map();
// On a phone long names leave the plot its room, and cells that are too narrow for their number stay bare.
const cut = (name) => (name.length > 20 && !name.includes("&") ? `${name.slice(0, 8)}…${name.slice(-11)}` : name);
function fitted(figure, width) {
  const made = { data: figure.data.map((trace) => ({ ...trace })), layout: JSON.parse(JSON.stringify(figure.layout)) };
  for (const axis of [made.layout.xaxis, made.layout.yaxis]) if (width < 480 && axis.ticktext) axis.ticktext = axis.ticktext.map(cut);
  for (const trace of made.data) {
    if (trace.type !== "heatmap") continue;
    const room = (width - 110) / trace.x.length;
    if (room < 38) delete trace.texttemplate;
    if (room < 11) made.layout.xaxis.showticklabels = false; // the columns stand in the order of the rows
  }
  return made;
}
function draw(place) {
  const figure = fitted(themed(told.figures[place.id.slice("figure-".length)]), place.clientWidth);
  figure.layout.height = Math.min(figure.layout.height, paper ? SHEET : Infinity);
  place.style.height = `${figure.layout.height}px`;
  for (const trace of figure.data) if (pressed.has(trace.name)) trace.visible = pressed.get(trace.name);
  (place.drawn ? Plotly.react : Plotly.newPlot)(place, figure.data, figure.layout, options);
  place.drawn = true;
}
for (const id of Object.keys(told.figures)) plots.push(document.getElementById(`figure-${id}`));
plots.sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
// One at a time, from the top down, so that the page answers from the start.
const queue = [...plots];
function next() {
  const place = queue.shift();
  if (!place) return document.documentElement.setAttribute("data-drawn", "");
  if (!place.drawn) draw(place);
  setTimeout(next);
}
next();
const buttons = [...document.querySelectorAll(".legend button[data-arm]")];
function show(changes) {
  for (const [arm, on] of changes) pressed.set(arm, on);
  for (const button of buttons) if (pressed.has(button.dataset.arm)) button.setAttribute("aria-pressed", String(pressed.get(button.dataset.arm)));
  for (const place of plots) {
    if (!place.drawn) continue;
    for (const on of [true, false]) {
      const mine = place.data.flatMap((trace, i) => (changes.get(trace.name) === on ? [i] : []));
      if (mine.length) Plotly.restyle(place, { visible: on }, mine);
    }
  }
}
for (const button of buttons) {
  button.addEventListener("click", () => show(new Map([[button.dataset.arm, button.getAttribute("aria-pressed") !== "true"]])));
}
for (const button of document.querySelectorAll(".legend .set")) {
  const wanted = { all: () => true, none: () => false, few: (arm) => told.few.includes(arm) }[button.dataset.set];
  button.addEventListener("click", () => show(new Map(buttons.map((one) => [one.dataset.arm, wanted(one.dataset.arm)]))));
}
// A window, a frame, an opened section: whatever changes the width of a plot's place.
const watcher = new ResizeObserver((seen) => seen.forEach((one) => one.contentRect.width && one.target.drawn && Plotly.Plots.resize(one.target)));
plots.forEach((place) => watcher.observe(place));
const redraw = () => plots.forEach(draw);
dark.addEventListener("change", redraw);
window.addEventListener("beforeprint", () => { paper = true; redraw(); plots.forEach((place) => Plotly.Plots.resize(place)); });
window.addEventListener("afterprint", () => { paper = false; redraw(); plots.forEach((place) => Plotly.Plots.resize(place)); });
// A frame without leave to download (as the MLflow pages have it) shows the numbers instead.
if (window.self !== window.top) {
  const box = document.body.appendChild(document.createElement("dialog"));
  box.innerHTML = "<form method=dialog><button>close</button></form><pre></pre>";
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a.data");
    if (!link) return;
    event.preventDefault();
    const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream();
    box.querySelector("pre").textContent = await new Response(link.download.endsWith(".gz") ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).text();
    box.showModal();
  });
}
