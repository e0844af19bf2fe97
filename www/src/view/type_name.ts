/** The name of a type in ggml's spelling. */
export function typeName(encoding: string): string {
  return encoding.toUpperCase();
}
