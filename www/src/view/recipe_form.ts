// The form of the quantize view: target, type or preset, and a few switches. Everything it lists comes from the catalog.
import { h, replace, uid } from '../dom';
import { fixed } from '../format';
import type { Catalog, ModelView, Recipe, TargetInfo, TypeInfo } from '../protocol';

interface Option {
  label: string;
  hint: string;
  checked: boolean;
  pick: () => void;
}

/** The keys of a recipe that decide the types: one of them is set. */
type Types = Pick<Recipe, 'type' | 'mix' | 'q4_scheme'>;

export function recipeForm(catalog: Catalog, model: ModelView, changed: (recipe: Recipe) => void): HTMLElement {
  const { targets } = catalog;
  let target = targets[0] as TargetInfo;
  let types = typesOf(target.default);
  const pure = check(
    'Embeddings and output too',
    'The same as --pure on the command line. Norms and tensors of one axis keep their type either way.',
  );
  const again = check(
    'Quantize what is quantized already',
    'The same as --allow-requantize. The source lost information once; this loses more.',
  );
  const nonfinite = check(
    'Let NaN and infinities pass in plain floats',
    'The same as --allow-nonfinite. The report names every tensor that holds some; blocks cannot.',
  );
  const slot = h('div', { class: 'field-slot' });
  const update = () => {
    pure.node.hidden = types.type === undefined || target.presets.length === 0;
    changed({
      to: target.target,
      ...types,
      pure: pure.input.checked && !pure.node.hidden,
      allow_requantize: again.input.checked,
      // The page does not read tokenizers yet, so that tensors keep the names of their source.
      ...(target.target === 'gguf' ? { names: 'source' as const } : {}),
      ...(nonfinite.input.checked ? { allow_nonfinite: true } : {}),
    });
  };
  const option = (label: string, hint: string, wanted: Types): Option => ({
    label,
    hint,
    checked: same(wanted, types),
    pick: () => {
      types = wanted;
      update();
    },
  });
  const offer = () => {
    const group = uid('choice');
    const info = (name: string) => catalog.types.find((t) => t.dtype === name);
    const accepted = catalog.types.filter((t) => target.types.includes(t.dtype));
    const single = accepted.map((t) => option(t.dtype, about(t), { type: t.dtype }));
    const presets = catalog.presets
      .filter((p) => target.presets.includes(p.preset) && info(p.base)?.quantized)
      .map((p) => option(p.preset, `mostly ${p.base}`, { mix: p.preset }));
    const schemes = target.q4_schemes.map((s) =>
      option(s.label, `${bits(s.bits_per_weight)}`, { q4_scheme: s.scheme }),
    );
    replace(
      slot,
      single.length > 0 && radios('One type', single, group),
      presets.length > 0 && radios('A preset: the types that llama-quantize gives each tensor', presets, group),
      schemes.length > 0 && radios('Scheme', schemes, group),
    );
  };
  const containers = radios(
    'Write',
    targets.map((t) => ({
      label: t.label,
      hint: t.about,
      checked: t === target,
      pick: () => {
        target = t;
        types = typesOf(t.default);
        offer();
        update();
      },
    })),
  );
  again.node.hidden = !model.quantized;
  for (const box of [pure, again, nonfinite]) box.input.addEventListener('change', update);
  offer();
  update();
  const form = h(
    'form',
    { class: 'recipe-form', 'aria-label': 'What to write' },
    containers,
    slot,
    pure.node,
    again.node,
    nonfinite.node,
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  return form;
}

/** A type decides alone, and so does a preset; the scheme is that of a target without types. */
function typesOf({ type, mix, q4_scheme }: Recipe): Types {
  if (type !== undefined) return { type };
  if (mix !== undefined) return { mix };
  return q4_scheme === undefined ? {} : { q4_scheme };
}

function same(a: Types, b: Types): boolean {
  return a.type === b.type && a.mix === b.mix && a.q4_scheme === b.q4_scheme;
}

function about({ bits_per_weight, quantized, searches, importance }: TypeInfo): string {
  const search = quantized && searches && 'searched';
  const matrix = {
    ignored: '',
    optional: '',
    wanted: 'better with an importance matrix',
    required: 'needs an importance matrix',
  }[importance];
  return [bits(bits_per_weight), search, matrix].filter(Boolean).join(', ');
}

function bits(count: number): string {
  return `${Number(fixed(count, 2))} bits`;
}

function radios(legend: string, choices: readonly Option[], group = uid('choice')): HTMLElement {
  const options = choices.map((c) => {
    const input = h('input', { type: 'radio', name: group, value: c.label, checked: c.checked });
    input.addEventListener('change', c.pick);
    return h(
      'label',
      { class: 'option' },
      input,
      h('span', {}, h('span', { class: 'option-name' }, c.label), h('span', { class: 'soft small' }, c.hint)),
    );
  });
  return h('fieldset', {}, h('legend', {}, legend), h('div', { class: 'options' }, options));
}

function check(label: string, hint: string): { node: HTMLElement; input: HTMLInputElement } {
  const input = h('input', { type: 'checkbox' });
  const text = h(
    'span',
    {},
    h('span', { class: 'option-name plain' }, label),
    h('span', { class: 'soft small' }, hint),
  );
  return { node: h('label', { class: 'option lone' }, input, text), input };
}
