// Work that a cancel does not wait for.
import { interrupted } from './api_error';

/** Settles as `work` does, or rejects as interrupted at once when `signal` aborts. The work itself may go on. */
export function unlessCancelled<T>(work: PromiseLike<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(interrupted());
    const settle = () => signal.removeEventListener('abort', stop);
    work.then(resolve, reject).then(settle);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop);
  });
}
