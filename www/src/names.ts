// What the name of a tensor says: its layer, and its module without layer and expert numbers.

export interface NameParts {
  /** The number of the layer; absent for tensors outside the layers. */
  layer?: number;
  /** The name within a layer, with `#` in the place of further numbers and without `.weight`. */
  module: string;
  /** The whole name with `#` in the place of all numbers. */
  pattern: string;
}

const LAYER = /^(.*?)(?:^|\.)(?:layers?|blk|blocks?|h)\.(\d+)\.(.+)$/;
const NUMBER = /(^|\.)\d+(?=\.|$)/g;

function numbersOut(name: string): string {
  return name.replace(NUMBER, '$1#');
}

export function nameParts(name: string): NameParts {
  const pattern = numbersOut(name);
  const found = LAYER.exec(name) ?? /^(.*?)(?:^|\.)(\d+)\.(.+)$/.exec(name);
  const short = (text: string) => text.replace(/\.weight$/, '');
  if (!found?.[2] || !found[3]) return { module: short(pattern), pattern };
  return { layer: Number(found[2]), module: short(numbersOut(found[3])), pattern };
}
