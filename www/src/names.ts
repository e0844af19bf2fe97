// What the name of a tensor says: its stack of layers, its layer, and its module without layer and expert numbers.

export interface NameParts {
  /** The number of the layer; absent for tensors outside the layers. */
  layer?: number;
  /** The name before the number of the layer: `model.layers`, `visual.blocks`. Absent where `layer` is. */
  stack?: string;
  /** The name within a layer, with `#` in the place of further numbers and without `.weight`. */
  module: string;
  /** The whole name with `#` in the place of all numbers. */
  pattern: string;
}

const LAYER = /^((?:.*?\.)?(?:layers?|blk|blocks?|h))\.(\d+)\.(.+)$/;
const ANY_NUMBER = /^(?:(.*?)\.)?(\d+)\.(.+)$/;
const NUMBER = /(^|\.)\d+(?=\.|$)/g;

function numbersOut(name: string): string {
  return name.replace(NUMBER, '$1#');
}

export function nameParts(name: string): NameParts {
  const pattern = numbersOut(name);
  const found = LAYER.exec(name) ?? ANY_NUMBER.exec(name);
  const short = (text: string) => text.replace(/\.weight$/, '');
  if (!found?.[2] || !found[3]) return { module: short(pattern), pattern };
  return { stack: found[1] ?? '', layer: Number(found[2]), module: short(numbersOut(found[3])), pattern };
}

/** The stacks of layers that some tensors have, in their order: a model with a vision tower has two. */
export function stacksOf(parts: Iterable<NameParts>): string[] {
  const found = new Set<string>();
  for (const { stack } of parts) if (stack !== undefined) found.add(stack);
  return [...found];
}

/** The name of a layer: its number, after its stack where the model has several. */
export function layerName(stack: string, layer: number, several: boolean): string {
  return several && stack !== '' ? `${stack}.${layer}` : String(layer);
}
