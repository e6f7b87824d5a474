import { ask, byId, fill, guarded, make, number, shown } from "/static/api.js";

const STEP = 200;
const state = { run: null, cases: [], sort: "case", up: true, most: STEP };

const COLUMNS = [
  ["case", "Case"],
  ["label", "Label"],
  ["probability", "Probability"],
  ["called", "Call"],
  ["error", "Error"],
  [null, "Slides"],
];

const scoreOf = (one) => one.scores[byId("model").value];
const word = (place) => (place === null || place === undefined ? "" : state.run.class_names[place]);
const isWrong = (one) => {
  const score = scoreOf(one);
  return Boolean(score) && one.label !== null && score.called !== one.label;
};
const valueOf = (one) => {
  if (state.sort === "case") return one.case;
  if (state.sort === "label") return one.label;
  return scoreOf(one)?.[state.sort];
};

const order = (one, other) => {
  const [a, b] = [valueOf(one), valueOf(other)];
  const [noA, noB] = [a === null || a === undefined, b === null || b === undefined];
  if (noA || noB) return noA - noB;
  const found = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return state.up ? found : -found;
};

const kept = () => {
  const text = byId("search").value.trim().toLowerCase();
  const filter = byId("filter").value;
  return state.cases.filter((one) => {
    if (filter === "new" && !one.is_new) return false;
    if (filter === "wrong" && !isWrong(one)) return false;
    if (filter === "right" && (!scoreOf(one) || one.label === null || isWrong(one))) return false;
    return !text || [one.case, ...one.slides.map((s) => s.name)].some((t) => t.toLowerCase().includes(text));
  });
};

const gauge = (score) => {
  const cell = make("td", "", { className: "number" });
  if (!score) return cell;
  const bar = make("span", "", { className: "gauge", title: `threshold ${number(score.threshold)}` });
  const [share, cut] = [make("i"), make("b")];
  share.style.width = `${100 * score.probability}%`;
  cut.style.left = `calc(${100 * Math.min(1, Math.max(0, score.threshold))}% - 1px)`;
  bar.append(share, cut);
  cell.append(bar, number(score.probability));
  return cell;
};

const linksOf = (one) => {
  const cell = make("td", "", { className: "slides" });
  for (const slide of one.slides) {
    const name = slide.name === one.case && one.slides.length === 1 ? "open" : shown(slide.name, 40);
    const hash = new URLSearchParams({ slide: slide.key, model: byId("model").value });
    cell.append(make("a", name, { href: `/slide#${hash}`, title: shown(slide.name, 300) }));
    if (!slide.has_pixels) cell.append(" ", make("span", "no picture", { className: "tag" }));
  }
  return cell;
};

const rowOf = (one) => {
  const row = make("tr");
  const score = scoreOf(one);
  const head = make("th", shown(one.case, 60), { scope: "row", title: shown(one.case, 300) });
  if (one.is_new) head.append(" ", make("span", "new", { className: "tag" }));
  const call = make("td", score ? word(score.called) : "", { className: isWrong(one) ? "wrong" : "" });
  if (isWrong(one)) call.append(" (wrong)");
  row.append(head, make("td", word(one.label)), gauge(score), call, make("td", number(score?.error), { className: "number" }), linksOf(one));
  return row;
};

const draw = () => {
  const found = kept().sort(order);
  byId("cases").tBodies[0].replaceChildren(...found.slice(0, state.most).map(rowOf));
  byId("count").textContent = `${found.length} of ${state.cases.length} cases`;
  byId("more").hidden = found.length <= state.most;
};

const drawHeads = () => {
  const heads = COLUMNS.map(([key, title]) => {
    const head = make("th", "", { scope: "col" });
    const name = key === "probability" ? `Probability of ${word(state.run.class_names.length - 1)}` : title;
    if (!key) {
      head.textContent = name;
      return head;
    }
    const button = make("button", name, { type: "button" });
    button.addEventListener("click", () => {
      // errors and probabilities are looked for from the top
      state.up = state.sort === key ? !state.up : !["error", "probability"].includes(key);
      state.sort = key;
      drawHeads();
      draw();
    });
    head.append(button);
    if (state.sort === key) head.setAttribute("aria-sort", state.up ? "ascending" : "descending");
    return head;
  });
  byId("cases").tHead.rows[0].replaceChildren(...heads);
};

const start = guarded(async () => {
  state.run = await ask("/api/run");
  state.cases = (await ask("/api/cases")).cases;
  const { name, task, models, notes } = state.run;
  byId("title").textContent = `${shown(task)}: ${shown(name)}`;
  document.title = `${shown(task)} - momkd viewer`;
  fill(byId("notes"), notes.map((note) => shown(note, 300)));
  byId("model").replaceChildren(...models.map((model) => make("option", shown(model), { value: model })));
  byId("caption").textContent = "A row a case: the mean of its slides; the line in a bar is the threshold, "
    + "the error is the distance of the probability from the label (0 or 1)."
    + (state.cases.some((one) => !one.is_new && Object.keys(one.scores).length)
      ? " Cases of the run were scored by models that did not learn from them." : "");
  drawHeads();
  draw();
});

byId("tools").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["search", "model", "filter"]) {
  byId(id).addEventListener("input", () => {
    state.most = STEP;
    draw();
  });
}
byId("more").addEventListener("click", () => {
  state.most += 5 * STEP;
  draw();
});
start();
