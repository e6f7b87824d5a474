
"use strict";
(() => {
  // a number where the cell states one; text sorts behind numbers, what is not defined last
  const rank = (cell) => {
    if (cell === undefined || cell.textContent.trim() === "") return [2, ""];
    if (cell.dataset.v !== undefined) return [0, Number(cell.dataset.v)];
    const text = cell.textContent.trim();
    return text.startsWith("not defined") ? [2, text] : [1, text];
  };
  const before = (one, two, up) => {
    if (one[0] !== two[0]) return one[0] - two[0];
    if (one[0] === 2) return 0;
    const found = one[0] === 0 ? one[1] - two[1] : one[1].localeCompare(two[1], "en", { numeric: true });
    return up ? found : -found;
  };
  const sort = (table, heads, place) => {
    const up = heads[place].getAttribute("aria-sort") !== "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [rank(row.cells[place]), row]);
    rows.sort((one, two) => before(one[0], two[0], up));
    body.append(...rows.map((pair) => pair[1]));
  };
  const buttons = [];
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, heads, place));
      head.append(button);
      buttons.push([head, button]);
    });
  }
  const closed = new Set();
  // on paper, the head of a long table is repeated on every page; buttons in it would not be
  addEventListener("beforeprint", () => {
    for (const [head, button] of buttons) head.replaceChildren(...button.childNodes);
    for (const part of document.querySelectorAll("details:not([open])")) {
      closed.add(part);
      part.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const [head, button] of buttons) {
      button.append(...head.childNodes);
      head.append(button);
    }
    for (const part of closed) part.open = false;
    closed.clear();
  });
})();
