// The order of calls: first those of the view that is shown, then the conversion, then the background sweep.
import type { Call } from './protocol';

/** Answers that a view waits for. */
export const INTERACTIVE = 0;
export const CONVERT = 1;
export const SWEEP = 2;

export function levelOf(call: Call): number {
  if (call === 'convert' || runsModel(call)) return CONVERT;
  return call === 'sweep' ? SWEEP : INTERACTIVE;
}

/** Calls that run a model on tokens, or measure all its tensors for that: as long as a conversion. */
function runsModel(call: Call): boolean {
  return call === 'eval' || call === 'sensitivity' || call === 'types_for_size';
}

/** Calls that read tensors window by window. Others are short, or wait for a graphics device, and hold nothing back. */
export function readsWindows(call: Call): boolean {
  return onlyMeasures(call) || runsModel(call) || call === 'convert' || call === 'compare' || call === 'verify';
}

/** Calls that only measure one model: any worker answers them. */
export function onlyMeasures(call: Call): boolean {
  return call === 'values' || call === 'errors' || call === 'rotated' || call === 'sweep';
}
