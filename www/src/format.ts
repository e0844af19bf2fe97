// Numbers as text. Sizes carry the unit they are in: MB is 10^6 bytes, MiB is 2^20.

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** Thin spaces group the digits: they read well in a column and cannot be taken for a decimal sign. */
export function integer(n: number | bigint): string {
  return grouped.format(n).replaceAll(',', '\u2009');
}

function scaled(n: number, base: number, units: readonly string[]): string {
  let power = 0;
  let value = n;
  while (value >= base && power < units.length - 1) {
    value /= base;
    power += 1;
  }
  // 999.96 would round to "1000" of the smaller unit.
  if (power > 0 && power < units.length - 1 && Number(value.toPrecision(4)) >= base) {
    value /= base;
    power += 1;
  }
  const digits = power === 0 ? 0 : value >= 100 ? 1 : 2;
  return `${value.toFixed(digits)}\u00a0${units[power] ?? ''}`.trim();
}

/** Bytes in decimal units, as file managers and model hubs count them. */
export function bytes(n: number): string {
  return scaled(n, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
}

/** Bytes in binary units, as memory is counted. */
export function binaryBytes(n: number): string {
  return scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
}

export function count(n: number): string {
  return scaled(n, 1000, ['', 'K', 'M', 'B', 'T']);
}

export function percent(part: number, whole: number): string {
  if (whole <= 0) return '\u2013';
  const p = (100 * part) / whole;
  if (p > 0 && p < 0.01) return '<\u20090.01\u2009%';
  return `${p.toFixed(p < 10 ? 2 : 1)}\u2009%`;
}

/** A relative error, as a share in per cent. */
export function relative(error: number | null | undefined): string {
  return error === null || error === undefined ? '\u2013' : `${measure(100 * error, 3)}\u2009%`;
}

/** A relative error, with \u2248 before one that is estimated from a sample of the rows. */
export function marked(error: number | null | undefined, estimated: boolean): string {
  return estimated && error !== null && error !== undefined ? `\u2248\u2009${relative(error)}` : relative(error);
}

/** A measured value with `digits` significant digits; absent stays a dash, never a zero. */
export function measure(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined) return '\u2013';
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e6 ? value.toPrecision(digits) : value.toExponential(digits - 1);
  return text.replace('-', '\u2212').replace('e\u2212', 'e-').replace('e+', 'e');
}

export function fixed(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined ? '\u2013' : value.toFixed(digits).replace('-', '\u2212');
}

export function shape(axes: readonly number[]): string {
  return axes.length === 0 ? 'scalar' : axes.join('\u2009\u00d7\u2009');
}

export function seconds(s: number): string {
  if (s < 10) return `${s.toFixed(1)}\u00a0s`;
  if (s < 90) return `${Math.round(s)}\u00a0s`;
  return `${Math.floor(s / 60)}\u00a0min ${String(Math.round(s % 60)).padStart(2, '0')}\u00a0s`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${integer(n)}\u00a0${n === 1 ? one : many}`;
}
