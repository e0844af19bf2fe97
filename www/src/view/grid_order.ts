// The order of the rows of a table.

export type Compare<T> = (a: T, b: T) => number;

const names = new Intl.Collator('en', { numeric: true });

/** Absent values come last in both directions. */
export function order<T>(by: (row: T) => number | string | null, down: boolean): Compare<T> {
  return (a, b) => {
    const [x, y] = [by(a), by(b)];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    const less = typeof x === 'string' ? names.compare(x, String(y)) : x - Number(y);
    return down ? -less : less;
  };
}
