// The ways on where a plan is refused: to quantize again, to keep tensors, or to leave them out.
import { h } from '../dom';
import { plural } from '../format';
import type { ApiError, ModelView, Recipe } from '../protocol';
import type { RecipeForm } from './recipe_form';

/** The question in the place of the button, where the source is quantized. */
export function requantize(model: ModelView, form: RecipeForm | undefined): HTMLElement {
  const counts = new Map<string, number>();
  for (const t of model.tensors) if (t.quantized) counts.set(t.dtype, (counts.get(t.dtype) ?? 0) + 1);
  const types = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const anyway = h('button', { type: 'button', on: { click: () => form?.allowRequantize() } }, 'Quantize anyway');
  return h(
    'div',
    { class: 'note', role: 'status' },
    h('p', {}, h('strong', {}, `This model is already quantized (${types.slice(0, 3).join(', ')}).`)),
    h('p', {}, 'Quantizing again adds a second error. Start from the original model if you have it.'),
    h('div', { class: 'act' }, anyway),
  );
}

/** The way on where tensors have a type that cannot be converted: to keep them, where the format holds the type, or to leave them out. */
export function wayOn(model: ModelView, recipe: Recipe, error: ApiError, form: RecipeForm | undefined): HTMLElement | null {
  const refused = error.code === 'unsupported_dtype' && model.tensors.find((t) => t.name === error.tensor);
  if (!refused || !form) return null;
  const names = model.tensors.filter((t) => t.dtype === refused.dtype).map((t) => t.name);
  const what = names.length === 1 ? 'it' : `all ${plural(names.length, 'tensor')} of type ${refused.dtype}`;
  const keep = () =>
    form.except({ overrides: names.map((name) => ({ pattern: name, type: refused.dtype.toLowerCase() })) });
  const leave = () => form.except({ exclude: names });
  const holds = recipe.to === 'safetensors' || recipe.to === 'hf_folder';
  const button = (label: string, click: () => void) => h('button', { type: 'button', on: { click } }, label);
  return h('div', { class: 'act' }, holds && button(`Keep ${what}`, keep), button(`Leave ${what} out`, leave));
}
