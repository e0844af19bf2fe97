// The order of calls: what is looked at comes first, then the conversion, then the background sweep.
import type { Call } from './protocol';

export const LOOK = 0;
export const CONVERT = 1;
export const SWEEP = 2;

export function levelOf(call: Call): number {
  if (call === 'convert') return CONVERT;
  return call === 'sweep' ? SWEEP : LOOK;
}

/** Calls that read tensors window by window. Others are short, or wait for a graphics device, and hold nothing back. */
export function readsWindows(call: Call): boolean {
  return onlyMeasures(call) || call === 'convert' || call === 'compare' || call === 'verify';
}

/** Calls that only measure one model: any worker answers them. */
export function onlyMeasures(call: Call): boolean {
  return call === 'values' || call === 'errors' || call === 'rotated' || call === 'sweep';
}
