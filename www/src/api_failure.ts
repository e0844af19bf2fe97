// An `ApiError` that can be thrown, in the page and in its worker.
import type { ApiError } from './protocol';

export class ApiFailure extends Error {
  constructor(readonly error: ApiError) {
    super(error.message);
  }
}
