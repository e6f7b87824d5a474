import { ask, byId, guarded, make, number, post, remove, shown, tell, upload } from "/static/api.js";

const WAIT_MS = 600;
const state = { run: null, timer: 0, drawn: "" };

const scoreWords = (model, score) => {
  const positive = shown(state.run.class_names.at(-1), 40);
  const span = score.low === null ? "" : ` (${number(score.low)} to ${number(score.high)} over its models)`;
  const side = score.called ? "at or above" : "below";
  return `${shown(model)}: ${positive} ${number(score.probability)}${span}, ${side} the threshold ${number(score.threshold)}`
    + (score.flags ? ` - ${shown(score.flags, 200)}` : "");
};

const itemOf = (job) => {
  const item = make("li");
  item.append(make("h3", shown(job.name, 120)));
  const isOpen = ["waiting", "running"].includes(job.state);
  if (isOpen) {
    const bar = make("progress");
    if (job.total) [bar.max, bar.value] = [job.total, job.done];
    const counted = job.total ? ` (${Math.round(job.done)} of ${Math.round(job.total)})` : "";
    const stop = make("button", "Cancel", { type: "button" });
    stop.addEventListener("click", guarded(async () => {
      await remove(`/api/jobs/${job.key}`);
      await refresh();
    }));
    item.append(make("p", `${job.step}${counted}`, { className: "soft" }), bar, make("p"));
    item.lastChild.append(stop);
  } else {
    const words = { done: `done in ${job.took_s.toFixed(0)} s`, failed: "not done", cancelled: "cancelled" };
    item.append(make("p", words[job.state], { className: "soft" }));
  }
  if (job.lines.length) item.append(make("p", job.lines.join("\n"), { className: "alarm" }));
  for (const slide of job.answer.slides ?? []) {
    const line = make("p");
    line.append(make("a", `Open ${shown(slide.name, 60)}`, { href: `/slide#${new URLSearchParams({ slide: slide.key })}` }));
    item.append(line);
    for (const [model, score] of Object.entries(slide.scores)) item.append(make("p", scoreWords(model, score)));
  }
  for (const note of job.answer.notes ?? []) item.append(make("p", note, { className: "soft" }));
  return item;
};

const refresh = async () => {
  clearTimeout(state.timer);
  const { jobs } = await ask("/api/jobs");
  const told = JSON.stringify(jobs.map((job) => ({ ...job, took_s: job.state === "done" ? job.took_s : 0 })));
  if (told !== state.drawn) byId("jobs").replaceChildren(...jobs.map(itemOf));
  state.drawn = told;
  if (jobs.some((job) => ["waiting", "running"].includes(job.state))) {
    state.timer = setTimeout(guarded(refresh), WAIT_MS);
  }
};

byId("by-path").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(async () => {
    await post("/api/jobs", { path: byId("path").value });
    byId("path").value = "";
    await refresh();
  })();
});

byId("by-upload").addEventListener("submit", (event) => {
  event.preventDefault();
  const bar = byId("upload");
  const button = event.target.querySelector("button");
  guarded(async () => {
    const [file] = byId("file").files;
    if (file.size > state.run.max_upload_bytes) {
      tell(`${shown(file.name)} is larger than the limit of ${size(state.run.max_upload_bytes)}.`);
      return;
    }
    bar.hidden = false;
    button.disabled = true;
    const place = `/api/uploads?${new URLSearchParams({ name: file.name })}`;
    await upload(place, file, (share) => { bar.value = share; });
    byId("file").value = "";
    await refresh();
  })().finally(() => {
    bar.hidden = true;
    button.disabled = false;
  });
});

const size = (bytes) => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`);

guarded(async () => {
  state.run = await ask("/api/run");
  byId("upload-hint").textContent = `One file, up to ${size(state.run.max_upload_bytes)}; deleted when the viewer ends.`;
  if (state.run.has_slides) {
    const { files, n_files: n } = await ask("/api/files");
    byId("files").replaceChildren(...files.map((name) => make("option", "", { value: name })));
    byId("path-hint").textContent = `${n} file${n === 1 ? "" : "s"} that the run does not hold; type to find one.`;
  } else {
    byId("path-hint").textContent = "Start momkd serve with --slides to choose among files there.";
    for (const part of byId("by-path").querySelectorAll("input, button")) part.disabled = true;
  }
  await refresh();
})();
