// Colours of errors: viridis, on a logarithmic scale. Dark is a small error.

/** Nine colours of viridis (CC0, by Nathaniel Smith and Stefan van der Walt), evenly spaced. */
const VIRIDIS: readonly (readonly [number, number, number])[] = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

export interface ErrorScale {
  lo: number;
  hi: number;
}

/** The scale that all types share: from 0.1 % to 50 %. */
export const SHARED: ErrorScale = { lo: 0.001, hi: 0.5 };

/** A scale from the smallest to the largest error; the shared one where there is none. */
export function scaleOf(errors: readonly number[]): ErrorScale {
  const positive = errors.filter((e) => e > 0);
  if (positive.length === 0) return SHARED;
  const lo = positive.reduce((a, b) => Math.min(a, b));
  const hi = positive.reduce((a, b) => Math.max(a, b));
  return hi > lo * 1.02 ? { lo, hi } : { lo: lo / 1.1, hi: hi * 1.1 };
}

/** Where an error lies on the scale, from 0 to 1. */
export function position(error: number, { lo, hi }: ErrorScale): number {
  if (!(error > 0)) return 0;
  return Math.max(0, Math.min(1, Math.log(error / lo) / Math.log(hi / lo)));
}

export function colourAt(part: number): string {
  const at = Math.max(0, Math.min(1, part)) * (VIRIDIS.length - 1);
  const i = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const [a, b] = [VIRIDIS[i], VIRIDIS[i + 1]];
  if (!a || !b) return 'rgb(128,128,128)';
  const mix = (k: 0 | 1 | 2) => Math.round(a[k] + (b[k] - a[k]) * (at - i));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}

export function errorColour(error: number, scale: ErrorScale): string {
  return colourAt(position(error, scale));
}

/** Black or white: what is readable on the colour of an error. */
export function inkOn(error: number, scale: ErrorScale): string {
  return position(error, scale) > 0.55 ? '#111' : '#fff';
}
