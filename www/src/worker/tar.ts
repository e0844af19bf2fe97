// A folder as one file: POSIX tar, whose layout is known before the first byte and which needs no checksum of data.
// https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html

const BLOCK = 512;
/** The name field of a header, and the largest size that its octal field holds. */
const NAME = 100;
const LARGEST = 0o77777777777;

export interface TarFile {
  name: string;
  bytes: number;
}

export interface TarLayout {
  /** Where each file's data begins. */
  offsets: number[];
  /** What to write besides data; all else is zero. */
  headers: { at: number; bytes: Uint8Array<ArrayBuffer> }[];
  length: number;
}

export function tarLayout(folder: string, files: readonly TarFile[]): TarLayout {
  const layout: TarLayout = { offsets: [], headers: [], length: 0 };
  for (const file of files) {
    const bytes = headersOf(`${folder}/${file.name}`, file.bytes);
    layout.headers.push({ at: layout.length, bytes });
    layout.offsets.push(layout.length + bytes.byteLength);
    layout.length += bytes.byteLength + padded(file.bytes);
  }
  layout.length += 2 * BLOCK;
  return layout;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

/** The plain header, after an extended one where a field is too small for its value. */
function headersOf(path: string, size: number): Uint8Array<ArrayBuffer> {
  const encoded = new TextEncoder().encode(path);
  const records: string[] = [];
  if (encoded.byteLength > NAME) records.push(record('path', path));
  if (size > LARGEST) records.push(record('size', String(size)));
  const plain = header(encoded, Math.min(size, LARGEST), '0');
  if (records.length === 0) return plain;
  const data = new TextEncoder().encode(records.join(''));
  const out = new Uint8Array(BLOCK + padded(data.byteLength) + BLOCK);
  out.set(header(new TextEncoder().encode('PaxHeader'), data.byteLength, 'x'));
  out.set(data, BLOCK);
  out.set(plain, out.byteLength - BLOCK);
  return out;
}

/** `length key=value\n`, where the length counts its own digits. */
function record(key: string, value: string): string {
  const rest = new TextEncoder().encode(` ${key}=${value}\n`).byteLength;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

function header(name: Uint8Array, size: number, type: string): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const text = (at: number, value: string) => block.set(new TextEncoder().encode(value), at);
  const octal = (at: number, width: number, value: number) => text(at, value.toString(8).padStart(width - 1, '0'));
  block.set(name.subarray(0, NAME));
  octal(100, 8, 0o644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  // No time: the same plan gives the same bytes.
  octal(136, 12, 0);
  text(148, ' '.repeat(8));
  text(156, type);
  text(257, 'ustar\u000000');
  const sum = block.reduce((total, byte) => total + byte, 0);
  text(148, `${sum.toString(8).padStart(6, '0')}\u0000 `);
  return block;
}
