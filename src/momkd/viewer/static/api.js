// What pages ask of the server, and how they say what went wrong. Text goes in as text, never as HTML.

export class Refusal extends Error {}

const linesOf = async (answer) => {
  const text = await answer.text();
  try {
    return JSON.parse(text).lines.join("\n");
  } catch {
    return text.trim() || `the server answered ${answer.status}`;
  }
};

const send = async (place, how = {}) => {
  let answer;
  try {
    answer = await fetch(place, { ...how, headers: { "x-momkd-viewer": "1", ...how.headers } });
  } catch {
    throw new Refusal("The viewer does not answer: momkd serve has ended, or the network is down.");
  }
  if (!answer.ok) throw new Refusal(await linesOf(answer));
  return answer.json();
};

export const ask = (place) => send(place);
export const post = (place, body) => send(place, { method: "POST", body: body && JSON.stringify(body) });
export const remove = (place) => send(place, { method: "DELETE" });

// fetch tells nothing of how much has been sent
export const upload = (place, file, onProgress) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open("POST", place);
  request.setRequestHeader("x-momkd-viewer", "1");
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.addEventListener("progress", (event) => onProgress(event.loaded / file.size));
  request.addEventListener("load", () => {
    let told = {};
    try {
      told = JSON.parse(request.responseText);
    } catch {
      told = { lines: [request.responseText.trim()] };
    }
    if (request.status < 300) resolve(told);
    else reject(new Refusal(told.lines.join("\n")));
  });
  request.addEventListener("error", () => reject(new Refusal("The upload was refused or broken off.")));
  request.send(file);
});

export const byId = (id) => document.getElementById(id);

export const make = (tag, text = "", facts = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  Object.assign(element, facts);
  return element;
};

export const fill = (list, texts) => list.replaceChildren(...texts.map((text) => make("li", text)));

export const tell = (text) => {
  const place = byId("lines");
  place.textContent = text;
  place.hidden = !text;
};

export const guarded = (work) => async (...given) => {
  try {
    tell("");
    return await work(...given);
  } catch (error) {
    tell(error instanceof Refusal ? error.message : `The page failed: ${error}`);
    if (!(error instanceof Refusal)) console.error(error);
    return undefined;
  }
};

export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export const number = (value, digits = 3) => (value === null || value === undefined ? "" : value.toFixed(digits));

const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

// marks that turn the direction of text, and what cannot be seen, are shown as a replacement
export const shown = (name, most = 80) => {
  const text = String(name).replace(INVISIBLE, "\ufffd");
  return text.length > most ? `${text.slice(0, most - 12)}...${text.slice(-9)}` : text;
};
