// Which of the calls of a worker may go on: they share its thread.
import { levelOf, readsWindows } from '../levels';
import type { Call } from '../protocol';

interface Running {
  level: number;
  paused: boolean;
}

/** A call is held while it is paused, and while one of a level before its own runs and is not paused. */
export class Turns {
  private readonly running = new Map<number, Running>();
  private changed: Promise<void> | undefined;
  private change: () => void = () => {};

  begin(id: number, call: Call): void {
    if (readsWindows(call)) this.running.set(id, { level: levelOf(call), paused: false });
  }

  end(id: number): void {
    this.running.delete(id);
    this.tell();
  }

  hold(id: number, on: boolean): void {
    const call = this.running.get(id);
    if (!call) return;
    call.paused = on;
    this.tell();
  }

  /** Settles when the call may be free; absent while it is. */
  held(id: number): Promise<void> | undefined {
    const mine = this.running.get(id);
    if (!mine) return undefined;
    const after = [...this.running.values()].some((other) => other.level < mine.level && !other.paused);
    if (!mine.paused && !after) return undefined;
    this.changed ??= new Promise((resolve) => (this.change = resolve));
    return this.changed;
  }

  private tell(): void {
    this.change();
    this.changed = undefined;
  }
}
