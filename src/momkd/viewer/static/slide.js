import { ask, byId, fill, guarded, make, number, pause, post, Refusal, shown, tell } from "/static/api.js";
import { coloursOf } from "/static/colours.js";
import { Overlay } from "/static/overlay.js";

const MOST_SHOWN = 8; // layers told of a tile
const state = { slide: null, frame: null, scores: null, viewer: null, overlay: null, isBusy: false };

// OpenSeadragon adds a style of its own to the page, which the page's policy forbids, unless it finds
// it there: what it looks for need not be a style that does anything
const inert = document.createElementNS("urn:momkd:inert", "style");
inert.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(inert);

const canvas = byId("overlay");

const hash = () => new URLSearchParams(window.location.hash.slice(1));

const sourceOf = (frame, tileUrl) => ({
  width: frame.width_px0,
  height: frame.height_px0,
  tileSize: frame.tile_px,
  tileOverlap: 0,
  minLevel: Math.min(8, frame.last_level), // the last one that is a single tile
  maxLevel: frame.last_level,
  getTileUrl: tileUrl,
});

const niceLength = (most) => {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((n) => n <= most) ?? power;
};

const lengthWords = (um) => (um >= 1000 ? `${um / 1000} mm` : `${Number(um.toPrecision(3))} \u00b5m`);

const drawScale = () => {
  const place = state.overlay.place();
  const bar = byId("scale");
  const mpp = state.frame.mpp;
  bar.hidden = !place || !mpp;
  if (place) {
    const words = mpp ? `${Number((mpp / place.scale).toPrecision(3))} \u00b5m a screen pixel` : "no scale: the slide states no resolution";
    byId("where").textContent = words;
  }
  if (bar.hidden) return;
  const um = niceLength((140 * mpp) / place.scale);
  bar.querySelector("div").style.width = `${(um / mpp) * place.scale}px`;
  bar.querySelector("span").textContent = lengthWords(um);
};

const layerNow = () => state.scores?.layers[byId("layer").selectedIndex] ?? null;

const remember = () => {
  const item = state.viewer?.world.getItemAt(0);
  const facts = { slide: state.slide.key, model: byId("model").value };
  const layer = layerNow() ?? { name: hash().get("layer") };
  if (layer.name) facts.layer = layer.name;
  facts.opacity = byId("opacity").value;
  if (item) {
    const centre = item.viewportToImageCoordinates(state.viewer.viewport.getCenter());
    facts.x = Math.round(centre.x);
    facts.y = Math.round(centre.y);
    facts.zoom = Number(state.overlay.place().scale.toPrecision(5));
  }
  window.history.replaceState(null, "", `#${new URLSearchParams(facts)}`);
};

const restore = () => {
  const wanted = hash();
  const item = state.viewer.world.getItemAt(0);
  const [x, y, zoom] = ["x", "y", "zoom"].map((key) => Number.parseFloat(wanted.get(key)));
  if (![x, y, zoom].every(Number.isFinite) || zoom <= 0) return;
  const { viewport } = state.viewer;
  viewport.zoomTo(item.imageToViewportZoom(zoom), null, true);
  viewport.panTo(item.imageToViewportCoordinates(x, y), true);
  viewport.applyConstraints(true);
};

const redraw = () => {
  state.overlay.draw();
  drawScale();
};

const openPicture = (frame, tileUrl) => new Promise((resolve) => {
  if (state.viewer) state.viewer.destroy();
  state.frame = frame;
  const viewer = OpenSeadragon({
    element: byId("picture"),
    tileSources: sourceOf(frame, tileUrl),
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: true,
    navigatorBackground: "#e9ecef",
    navigatorSizeRatio: 0.16,
    navigatorPosition: "BOTTOM_RIGHT",
    animationTime: 0.4,
    maxZoomPixelRatio: 8,
    visibilityRatio: 0.3,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  state.viewer = viewer;
  viewer.canvas.append(canvas); // over the slide, under the overview
  state.overlay = new Overlay(canvas, viewer);
  let isOpen = false;
  viewer.addHandler("open", () => {
    if (isOpen) return;
    isOpen = true;
    restore();
    for (const event of ["update-viewport", "animation", "resize"]) viewer.addHandler(event, redraw);
    viewer.addHandler("animation-finish", remember);
    redraw();
    resolve();
  });
  viewer.addHandler("tile-load-failed", guarded(async () => {
    throw new Refusal("Some parts of the picture could not be read.");
  }));
});

const drawLegend = (layer) => {
  byId("legend").hidden = !layer;
  if (!layer) return;
  const strip = byId("legend").querySelector("canvas");
  const pen = strip.getContext("2d");
  const colours = coloursOf(layer.kind);
  colours.forEach((colour, i) => {
    pen.fillStyle = colour;
    pen.fillRect((i * strip.width) / colours.length, 0, strip.width / colours.length + 1, strip.height);
  });
  const [low, name, high] = byId("legend").querySelectorAll("span");
  const [less, more] = [layer.low, layer.high].map((value) => `${Number(value.toPrecision(3))}`);
  const isEvidence = layer.name === "class evidence";
  const [first, last] = [state.slide.class_names[0], state.slide.class_names.at(-1)];
  low.textContent = isEvidence ? `${less} for ${shown(first, 20)}` : less;
  name.textContent = shown(layer.unit || layer.name);
  high.textContent = isEvidence ? `${more} for ${shown(last, 20)}` : more;
};

const chooseLayer = () => {
  const layer = layerNow();
  state.overlay?.paint(layer);
  drawLegend(state.overlay?.scores ? layer : null);
  if (state.overlay) redraw();
};

const madeBy = (facts) => {
  const said = facts.probability === undefined ? "" : `P(${shown(facts.class_name)}) = ${number(facts.probability)}`;
  const who = facts.made_by ? `by ${facts.made_by}` : "stored by momkd predict";
  return [said, who].filter(Boolean).join(", ");
};

const loadScores = guarded(async () => {
  const model = byId("model").value;
  const layers = byId("layer");
  const before = hash().get("layer");
  state.scores = null;
  layers.replaceChildren();
  layers.disabled = true;
  byId("made-by").textContent = "";
  const isStored = state.slide.stored.includes(model);
  byId("compute").hidden = isStored || !state.slide.can_score;
  byId("step").textContent = isStored || state.slide.can_score ? "" : "No heat map is stored for this model.";
  if (isStored) {
    const scores = await ask(`/api/slides/${state.slide.key}/scores?${new URLSearchParams({ model })}`);
    state.scores = scores;
    if (!state.slide.picture && scores.frame) await openPicture(scores.frame, () => "/static/glass.png");
    layers.replaceChildren(...scores.layers.map((layer) => make("option", shown(layer.name))));
    const place = scores.layers.findIndex((layer) => layer.name === before);
    layers.selectedIndex = Math.max(0, place);
    layers.disabled = false;
    byId("made-by").textContent = madeBy(scores.facts);
    if (scores.lines.length) tell(scores.lines.join("\n"));
    else if (!scores.x) tell("The places of the tiles are not known in pixels of the slide: nothing is drawn.");
  }
  state.overlay?.show(state.scores);
  chooseLayer();
  remember();
});

const follow = async (job) => {
  const bar = byId("progress");
  bar.hidden = false;
  let told = job;
  while (["waiting", "running"].includes(told.state)) {
    byId("step").textContent = told.step;
    if (told.total) [bar.max, bar.value] = [told.total, told.done];
    else bar.removeAttribute("value");
    await pause(400);
    told = await ask(`/api/jobs/${job.key}`);
  }
  bar.hidden = true;
  byId("step").textContent = "";
  if (told.state !== "done") throw new Refusal(told.lines.join("\n") || "cancelled");
};

const compute = guarded(async () => {
  const model = byId("model").value;
  byId("compute").disabled = true;
  try {
    await follow(await post(`/api/slides/${state.slide.key}/scores?${new URLSearchParams({ model })}`));
    state.slide.stored.push(model);
    if (byId("model").value === model) await loadScores();
  } finally {
    byId("compute").disabled = false;
    byId("progress").hidden = true;
  }
});

const hover = (event) => {
  const box = byId("hover");
  if (!state.overlay?.scores) {
    box.hidden = true;
    return;
  }
  const stage = byId("picture").getBoundingClientRect();
  const [u, v] = [event.clientX - stage.left, event.clientY - stage.top];
  const tile = state.overlay.tileAt(u, v);
  box.hidden = tile < 0;
  if (tile !== state.overlay.marked) {
    state.overlay.marked = tile;
    state.overlay.draw();
  }
  if (tile < 0) return;
  const { x, y, layers, n_tiles: n } = state.scores;
  const mpp = state.frame.mpp;
  const at = mpp ? [x[tile], y[tile]].map((p) => `${((p * mpp) / 1000).toFixed(2)}`).join(", ") : `${x[tile]}, ${y[tile]}`;
  const values = layers.slice(0, MOST_SHOWN).map((layer) => {
    const value = layer.values[tile];
    const said = value === null ? "not defined" : `${Number(value.toPrecision(3))} ${layer.unit}`;
    return `${shown(layer.name, 40)}: ${said}`.trimEnd();
  });
  box.textContent = [`tile ${tile + 1} of ${n}, at ${at} ${mpp ? "mm" : "px"}`, ...values].join("\n");
  box.style.left = `${Math.min(u + 14, stage.width - box.offsetWidth - 4)}px`;
  box.style.top = `${Math.min(v + 14, stage.height - box.offsetHeight - 4)}px`;
};

const drawScores = ({ scores, class_names: names, label }) => {
  const table = byId("scores");
  const models = Object.keys(scores);
  table.hidden = !models.length;
  if (!models.length) return;
  const head = make("tr");
  head.append(...["Model", `P(${shown(names.at(-1), 20)})`, "Call"].map((text) => make("th", text, { scope: "col" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...models.map((model) => {
    const score = scores[model];
    const span = score.low === null ? "" : ` (${number(score.low, 2)} to ${number(score.high, 2)})`;
    const isWrong = label !== null && score.called !== label;
    const row = make("tr", "", { title: `threshold ${number(score.threshold)}` });
    row.append(
      make("th", shown(model, 30), { scope: "row" }),
      make("td", `${number(score.probability)}${span}`),
      make("td", shown(names[score.called], 20) + (isWrong ? " (wrong)" : ""), { className: isWrong ? "wrong" : "" }),
    );
    return row;
  }));
};

const start = guarded(async () => {
  const wanted = hash();
  const key = wanted.get("slide") ?? "";
  if (!/^[0-9a-f]{16}$/.test(key)) throw new Refusal("This link names no slide: open one from the list of cases.");
  const slide = await ask(`/api/slides/${key}`);
  state.slide = slide;
  byId("title").textContent = shown(slide.slide, 120);
  document.title = `${shown(slide.slide, 60)} - momkd viewer`;
  const label = slide.label === null ? "label unknown" : `label ${shown(slide.class_names[slide.label])}`;
  byId("case").textContent = slide.is_new ? "new slide" : `case ${shown(slide.case)}, ${label}`;
  const flags = Object.entries(slide.scores).filter(([, s]) => s.flags).map(([m, s]) => `${m}: ${s.flags}`);
  fill(byId("notes"), [...slide.lines, ...flags].map((line) => shown(line, 300)));
  drawScores(slide);
  byId("model").replaceChildren(...slide.models.map((model) => make("option", shown(model), { value: model })));
  if (slide.models.includes(wanted.get("model"))) byId("model").value = wanted.get("model");
  const opacity = Number.parseInt(wanted.get("opacity"), 10);
  if (opacity >= 0 && opacity <= 100) byId("opacity").value = opacity;
  if (slide.picture) {
    await openPicture(slide.picture, (level, x, y) => `/api/slides/${key}/tiles/${level}/${x}/${y}`);
    state.overlay.opacity = byId("opacity").value / 100;
  }
  await loadScores();
  if (state.overlay) state.overlay.opacity = byId("opacity").value / 100;
  if (state.overlay) redraw();
  document.body.dataset.ready = "yes";
});

byId("model").addEventListener("change", loadScores);
byId("layer").addEventListener("change", () => {
  chooseLayer();
  remember();
});
byId("opacity").addEventListener("input", () => {
  if (!state.overlay) return;
  state.overlay.opacity = byId("opacity").value / 100;
  redraw();
});
byId("opacity").addEventListener("change", () => state.slide && remember());
byId("compute").addEventListener("click", compute);
byId("picture").addEventListener("pointermove", hover);
byId("picture").addEventListener("pointerleave", () => {
  byId("hover").hidden = true;
  if (state.overlay && state.overlay.marked >= 0) {
    state.overlay.marked = -1;
    state.overlay.draw();
  }
});
byId("zoom-in").addEventListener("click", () => state.viewer?.viewport.zoomBy(1.6));
byId("zoom-out").addEventListener("click", () => state.viewer?.viewport.zoomBy(1 / 1.6));
byId("home").addEventListener("click", () => state.viewer?.viewport.goHome());
byId("copy").addEventListener("click", guarded(async () => {
  remember();
  await navigator.clipboard.writeText(window.location.href);
  byId("copied").textContent = "copied";
}));
window.addEventListener("hashchange", () => window.location.reload());
start();
