// Waits for the browser's file calls: never past a cancel, never for ever.
import { interrupted } from './api_error';

/** A call that has not answered within its limit. The call itself may still be under way. */
export class Stalled extends Error {}

const TICK_MS = 250;

/**
 * Settles as `work` does. Rejects as interrupted at once when `signal` aborts, and with `Stalled` after `limitMs`
 * without an answer. The limit counts ticks of the event loop: an answer that came in while a kernel held the thread
 * is heard before the limit is over.
 */
export function answered<T>(work: PromiseLike<T>, signal: AbortSignal, limitMs = Infinity): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let left = Math.ceil(limitMs / TICK_MS);
    const settle = (how: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      how();
    };
    const stop = () => settle(() => reject(interrupted()));
    const tick = () => {
      left -= 1;
      if (left < 0) settle(() => reject(new Stalled()));
      else timer = setTimeout(tick, TICK_MS);
    };
    work.then(
      (value) => settle(() => resolve(value)),
      (reason: unknown) => settle(() => reject(reason)),
    );
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop);
    tick();
  });
}
