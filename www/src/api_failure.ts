// An `Failure` that can be thrown, in the page and in its worker.
import type { Failure } from './protocol';

export class ApiFailure extends Error {
  constructor(readonly error: Failure) {
    super(error.message);
  }
}
