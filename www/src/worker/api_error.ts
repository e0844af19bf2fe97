// Converts whatever was thrown to an `ApiError`: the core throws those itself, the browser throws its own errors.
import { ApiFailure } from '../api_failure';
import type { ApiError, Failure } from '../protocol';

export function interrupted(): ApiFailure {
  return new ApiFailure({ code: 'interrupted', message: 'No file was written.' });
}

export function toApiError(reason: unknown): Failure {
  if (reason instanceof ApiFailure) return reason.error;
  if (isApiError(reason)) return reason;
  if (reason instanceof DOMException) return { code: codeOf(reason), message: reason.message };
  return { code: 'io', message: reason instanceof Error ? reason.message : String(reason) };
}

function isApiError(value: unknown): value is ApiError {
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
