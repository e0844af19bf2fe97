// Whatever was thrown, as a `Problem`: the core throws them itself, the browser throws its own.
import type { Problem } from '../protocol';

export class Stop extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** `message`: what is left of the work. */
export function interrupted(message = 'Nothing was kept.'): Stop {
  return new Stop({ code: 'interrupted', message });
}

export function toProblem(reason: unknown): Problem {
  if (reason instanceof Stop) return reason.problem;
  if (isProblem(reason)) return reason;
  if (reason instanceof DOMException) return { code: codeOf(reason), message: reason.message };
  return { code: 'io', message: reason instanceof Error ? reason.message : String(reason) };
}

function isProblem(value: unknown): value is Problem {
  return (
    typeof value === 'object' && value !== null && !(value instanceof Error) && 'code' in value && 'message' in value
  );
}

function codeOf(reason: DOMException): string {
  switch (reason.name) {
    case 'QuotaExceededError':
      return 'no_space';
    case 'NotFoundError':
      return 'not_found';
    case 'AbortError':
      return 'interrupted';
    default:
      return 'io';
  }
}
