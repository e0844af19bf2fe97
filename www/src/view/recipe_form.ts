// The form of the quantize view: format, preset or type, and further options. Everything it lists comes from the catalog.
import { h, replace, uid, type Child } from '../dom';
import { fixed } from '../format';
import type { Catalog, ModelView, PresetInfo, Recipe, TargetInfo, TensorNaming, TypeInfo } from '../protocol';

interface Option {
  label: string;
  hint: string;
  checked: boolean;
  pick: () => void;
}

/** The keys of a recipe that decide the types: one of them is set, or none to keep the precision of the source. */
type Types = Pick<Recipe, 'type' | 'mix' | 'q4_scheme'>;

export interface RecipeForm {
  node: HTMLElement;
  /** Lets the source be quantized again though it is quantized already. */
  allowRequantize: () => void;
  /** Unfolds the further options. */
  showFurther: () => void;
  /** Chooses a preset of GGUF. */
  choosePreset: (preset: string) => void;
  /** Treats some tensors in another way than the rest. */
  except: (more: Exceptions) => void;
}

/** Tensors with a type of their own, and tensors that are left out. */
export type Exceptions = Pick<Recipe, 'overrides' | 'exclude'>;

export function recipeForm(catalog: Catalog, model: ModelView, changed: (recipe: Recipe) => void): RecipeForm {
  const { targets } = catalog;
  let target = targets[0] as TargetInfo;
  let types = typesOf(target.default);
  const options = furtherOptions(catalog, model);
  const slot = h('div', { class: 'field-slot' });
  let exceptions: Exceptions = {};
  const update = () => changed({ to: target.target, ...types, ...options.read(target, types), ...exceptions });
  const option = (label: string, hint: string, wanted: Types): Option => ({
    label,
    hint,
    checked: same(wanted, types),
    pick: () => {
      types = wanted;
      update();
    },
  });
  const offer = () => replace(slot, typeFields(catalog, target, option));
  const formats = radios(
    'Output format',
    targets.map((t) => ({
      label: t.label,
      hint: t.about,
      checked: t === target,
      pick: () => {
        target = t;
        exceptions = {};
        types = typesOf(t.default);
        offer();
        update();
      },
    })),
  );
  options.node.addEventListener('change', update);
  offer();
  update();
  const form = h('form', { class: 'recipe-form', 'aria-label': 'What to write' }, formats, slot, options.node);
  form.addEventListener('submit', (event) => event.preventDefault());
  const allowRequantize = () => {
    options.requantize.checked = true;
    update();
  };
  const except = (more: Exceptions) => {
    exceptions = { ...exceptions, ...more };
    update();
  };
  const choosePreset = (preset: string) => {
    target = targets.find((t) => t.target === 'gguf') ?? target;
    types = { mix: preset };
    for (const input of formats.querySelectorAll('input')) input.checked = input.value === target.label;
    offer();
    update();
  };
  return { node: form, allowRequantize, choosePreset, showFurther: () => (options.node.open = true), except };
}

/** The presets, the usual ones first; one type for all; the block forms of a target without types. */
function typeFields(
  catalog: Catalog,
  target: TargetInfo,
  option: (label: string, hint: string, wanted: Types) => Option,
): Child[] {
  const group = uid('choice');
  const info = (name: string) => catalog.types.find((t) => t.dtype === name);
  const preset = (p: PresetInfo) => option(p.preset.toUpperCase(), `mostly ${p.base}`, { mix: p.preset });
  const presets = catalog.presets.filter((p) => target.presets.includes(p.preset) && info(p.base)?.quantized);
  const single = catalog.types
    .filter((t) => target.types.includes(t.dtype))
    .map((t) => option(t.dtype, about(t), { type: t.dtype }));
  const precision = option('As the source', 'not quantized', {});
  const schemes = target.q4_schemes.map((s) => option(s.label, bits(s.bits_per_weight), { q4_scheme: s.scheme }));
  const usual = presets.filter((p) => p.usual).map(preset);
  const others = presets.filter((p) => !p.usual).map(preset);
  const same = [...(target.keeps_precision ? [precision] : []), ...single];
  return [
    usual.length > 0 && radios('Preset, as llama-quantize (recommended)', usual, group),
    others.length > 0 && folded('More presets', others, group),
    same.length > 0 && (usual.length > 0 ? folded : radios)('Same type for all', same, group),
    schemes.length > 0 && radios('Scheme', schemes, group),
  ];
}

interface FurtherOptions {
  node: HTMLDetailsElement;
  requantize: HTMLInputElement;
  read: (target: TargetInfo, types: Types) => Partial<Recipe>;
}

function furtherOptions(catalog: Catalog, model: ModelView): FurtherOptions {
  const pure = check(
    'Quantize token embeddings and lm_head too (--pure)',
    'Norms and other vectors keep their type either way.',
  );
  const again = check(
    'Requantize (--allow-requantize)',
    'The source is already quantized: quality drops further.',
  );
  const nonfinite = check(
    'Allow NaN and Inf in plain floats (--allow-nonfinite)',
    'The report names every tensor that holds some. Quantized blocks cannot.',
  );
  const compat = check(
    'The bytes of llama.cpp\u2019s converter (--compat)',
    'Without the keys that only Quantoscope writes.',
  );
  const names = select('Tensor names (--names)', NAMES);
  const automatic: [string, string] = ['', 'by the tokenizer'];
  const pre = select('Pre-tokenizer (--pre-tokenizer)', [
    automatic,
    ...catalog.pre_tokenizers.map((name): [string, string] => [name, name]),
  ]);
  again.node.hidden = !model.quantized;
  const fields = [again, names, pre, pure, nonfinite, compat].map(({ node }) => node);
  const node = h('details', { class: 'further' }, h('summary', {}, 'More options'), h('div', { class: 'further-body' }, fields));
  const read = (target: TargetInfo, types: Types): Partial<Recipe> => {
    const converts = target.converts_names && model.container === 'safetensors';
    pure.node.hidden = types.type === undefined || target.presets.length === 0;
    for (const field of [names, pre, compat]) field.node.hidden = !converts;
    return {
      pure: pure.input.checked && !pure.node.hidden,
      allow_requantize: again.input.checked,
      ...(nonfinite.input.checked ? { allow_nonfinite: true } : {}),
      ...(converts && names.input.value !== 'auto' ? { names: names.input.value as TensorNaming } : {}),
      ...(converts && pre.input.value !== '' ? { pre_tokenizer: pre.input.value } : {}),
      ...(converts && compat.input.checked ? { compat: true } : {}),
    };
  };
  return { node, requantize: again.input, read };
}

const NAMES: readonly (readonly [TensorNaming, string])[] = [
  ['auto', 'llama.cpp\u2019s, if there is a tokenizer'],
  ['gguf', 'llama.cpp\u2019s'],
  ['source', 'those of the source: not runnable'],
];

/** A type decides alone, and so does a preset; the scheme is that of a target without types. */
function typesOf({ type, mix, q4_scheme }: Recipe): Types {
  if (type !== undefined) return { type };
  if (mix !== undefined) return { mix };
  return q4_scheme === undefined ? {} : { q4_scheme };
}

function same(a: Types, b: Types): boolean {
  return a.type === b.type && a.mix === b.mix && a.q4_scheme === b.q4_scheme;
}

function about({ bits_per_weight, family, importance }: TypeInfo): string {
  const matrix = {
    ignored: '',
    optional: '',
    wanted: 'better with an importance matrix',
    required: 'needs an importance matrix',
  }[importance];
  return [bits(bits_per_weight), family, matrix].filter(Boolean).join(', ');
}

function bits(count: number): string {
  return `${Number(fixed(count, 2))} bpw`;
}

function optionLabels(choices: readonly Option[], group: string): HTMLElement[] {
  return choices.map((c) => {
    const input = h('input', { type: 'radio', name: group, value: c.label, checked: c.checked });
    input.addEventListener('change', (event) => {
      // The form as a whole is listened to for other fields.
      event.stopPropagation();
      c.pick();
    });
    return h(
      'label',
      { class: 'option' },
      input,
      h('span', {}, h('span', { class: 'option-name' }, c.label), h('span', { class: 'soft small' }, c.hint)),
    );
  });
}

function radios(legend: string, choices: readonly Option[], group = uid('choice')): HTMLElement {
  const options = h('div', { class: 'options' }, optionLabels(choices, group));
  return h('fieldset', {}, h('legend', {}, legend), options);
}

/** The same, shown on request; open where the choice is one of them. */
function folded(legend: string, choices: readonly Option[], group: string): HTMLElement {
  const options = h('div', { class: 'options', role: 'group', 'aria-label': legend }, optionLabels(choices, group));
  return h('details', { open: choices.some((c) => c.checked) }, h('summary', {}, legend), options);
}

interface Field<I> {
  node: HTMLElement;
  input: I;
}

function check(label: string, hint: string): Field<HTMLInputElement> {
  const input = h('input', { type: 'checkbox' });
  const text = h(
    'span',
    {},
    h('span', { class: 'option-name plain' }, label),
    h('span', { class: 'soft small' }, hint),
  );
  return { node: h('label', { class: 'option lone' }, input, text), input };
}

function select(label: string, choices: readonly (readonly [string, string])[]): Field<HTMLSelectElement> {
  const input = h('select', {}, choices.map(([value, text]) => h('option', { value }, text)));
  return { node: h('label', { class: 'picked' }, h('span', { class: 'option-name plain' }, label), input), input };
}
