// Tiles drawn over the slide, and which of them lies under the pointer.

import { coloursOf, STEPS, stepsOf } from "/static/colours.js";

export class Overlay {
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.scores = null;
    this.layer = null;
    this.opacity = 0.5;
    this.marked = -1;
    this.byStep = [];
    this.cells = new Map();
  }

  show(scores) {
    this.scores = scores && scores.x ? scores : null;
    this.layer = null;
    this.marked = -1;
    this.byStep = [];
    this.cells = new Map();
    if (!this.scores) return;
    const { x, y, tile_px0: side } = this.scores;
    for (let i = 0; i < x.length; i += 1) {
      const key = `${Math.floor(x[i] / side)},${Math.floor(y[i] / side)}`;
      if (this.cells.has(key)) this.cells.get(key).push(i);
      else this.cells.set(key, [i]);
    }
  }

  paint(layer) {
    this.layer = layer;
    this.byStep = [];
    if (!layer || !this.scores) return;
    this.colours = coloursOf(layer.kind);
    const lists = Array.from({ length: STEPS }, () => []);
    stepsOf(layer).forEach((step, i) => {
      if (step >= 0) lists[step].push(i);
    });
    this.byStep = lists;
  }

  // level-0 px -> px of the stage: u = x * scale + left
  place() {
    const item = this.viewer.world.getItemAt(0);
    if (!item) return null;
    const size = item.getContentSize();
    const first = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const last = item.imageToViewerElementCoordinates(size);
    return { left: first.x, top: first.y, scale: (last.x - first.x) / size.x };
  }

  draw() {
    const { canvas } = this;
    const dense = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = Math.round(width * dense);
      canvas.height = Math.round(height * dense);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    const place = this.place();
    if (!place || !this.scores) return;
    const { x, y, tile_px0: side } = this.scores;
    const { left, top, scale } = place;
    const drawn = side * scale;
    pen.globalAlpha = this.opacity;
    this.byStep.forEach((tiles, step) => {
      pen.fillStyle = this.colours[step];
      for (const i of tiles) {
        // whole pixels: neighbours neither overlap nor leave a gap
        const [u, v] = [Math.round(x[i] * scale + left), Math.round(y[i] * scale + top)];
        const [u1, v1] = [Math.round((x[i] + side) * scale + left), Math.round((y[i] + side) * scale + top)];
        if (u < width && v < height && u1 > 0 && v1 > 0) pen.fillRect(u, v, Math.max(1, u1 - u), Math.max(1, v1 - v));
      }
    });
    if (this.marked >= 0) {
      pen.globalAlpha = 1;
      pen.lineWidth = 2;
      const [u, v] = [x[this.marked] * scale + left, y[this.marked] * scale + top];
      pen.strokeStyle = "#fff";
      pen.strokeRect(u - 1, v - 1, drawn + 2, drawn + 2);
      pen.strokeStyle = "#d55e00";
      pen.strokeRect(u, v, drawn, drawn);
    }
  }

  // the tile under a point of the stage; of overlapping ones the last drawn, -1 for none
  tileAt(u, v) {
    const place = this.place();
    if (!place || !this.scores) return -1;
    const { x, y, tile_px0: side } = this.scores;
    const [px, py] = [(u - place.left) / place.scale, (v - place.top) / place.scale];
    const [column, row] = [Math.floor(px / side), Math.floor(py / side)];
    let found = -1;
    for (const [dc, dr] of [[0, 0], [-1, 0], [0, -1], [-1, -1]]) {
      for (const i of this.cells.get(`${column + dc},${row + dr}`) ?? []) {
        if (px >= x[i] && px < x[i] + side && py >= y[i] && py < y[i] + side) found = Math.max(found, i);
      }
    }
    return found;
  }
}
