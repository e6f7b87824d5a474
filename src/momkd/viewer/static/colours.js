// Colours of a layer: dark blue to yellow from nothing to much; blue and orange around zero.

const AMOUNT = [[0, 34, 78], [26, 56, 111], [67, 78, 108], [97, 101, 111], [125, 124, 120], [155, 148, 118], [188, 174, 108], [222, 201, 88], [254, 232, 56]];
const SIGNED = [[5, 70, 135], [70, 140, 195], [165, 205, 230], [243, 243, 240], [250, 200, 140], [225, 125, 40], [150, 60, 0]];
export const STEPS = 128;

const between = (stops, share) => {
  const place = Math.min(stops.length - 1.000001, Math.max(0, share * (stops.length - 1)));
  const first = Math.floor(place);
  const rest = place - first;
  return stops[first].map((v, i) => Math.round(v + rest * (stops[first + 1][i] - v)));
};

export const coloursOf = (kind) => {
  const stops = kind === "signed" ? SIGNED : AMOUNT;
  return Array.from({ length: STEPS }, (_, i) => `rgb(${between(stops, i / (STEPS - 1)).join(" ")})`);
};

// a step a tile; -1 where there is no value
export const stepsOf = (layer) => {
  const { low, high, values } = layer;
  return Int16Array.from(values, (value) => {
    if (value === null) return -1;
    const share = (value - low) / (high - low || 1);
    return Math.min(STEPS - 1, Math.max(0, Math.floor(share * STEPS)));
  });
};
