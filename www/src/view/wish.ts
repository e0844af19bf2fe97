// The form of the quantize view: container, type, and the few switches that matter.
import { h, replace, uid } from '../dom';
import type { Container, ModelView, Recipe } from '../protocol';

interface Choice {
  value: string;
  label: string;
  hint: string;
}

const CONTAINERS: readonly Choice[] = [
  { value: 'gguf', label: 'GGUF', hint: 'one file, for llama.cpp and its relatives' },
  { value: 'q4', label: 'Lattice .q4', hint: 'a folder of files, one per tensor' },
  { value: 'safetensors', label: 'safetensors', hint: 'one file, plain floats' },
];

/** Mixes: the types that llama-quantize chooses under these names. */
const MIXES: readonly Choice[] = [
  { value: 'q6_k', label: 'Q6_K', hint: 'about 6.6 bits' },
  { value: 'q5_k_m', label: 'Q5_K_M', hint: 'about 5.7 bits' },
  { value: 'q4_k_m', label: 'Q4_K_M', hint: 'about 4.9 bits, what most people use' },
  { value: 'q4_k_s', label: 'Q4_K_S', hint: 'about 4.6 bits' },
  { value: 'iq4_xs', label: 'IQ4_XS', hint: 'about 4.4 bits' },
  { value: 'q3_k_m', label: 'Q3_K_M', hint: 'about 3.9 bits' },
  { value: 'q2_k', label: 'Q2_K', hint: 'about 3 bits' },
];

const TYPES: Record<Container, readonly Choice[]> = {
  gguf: [
    { value: 'Q8_0', label: 'Q8_0', hint: '8.5 bits, 32 codes and a scale' },
    { value: 'Q6_K', label: 'Q6_K', hint: '6.56 bits, searched' },
    { value: 'Q5_1', label: 'Q5_1', hint: '6 bits, scale and minimum' },
    { value: 'Q5_K', label: 'Q5_K', hint: '5.5 bits, searched' },
    { value: 'Q5_0', label: 'Q5_0', hint: '5.5 bits, scale' },
    { value: 'Q4_1', label: 'Q4_1', hint: '5 bits, scale and minimum' },
    { value: 'Q4_K', label: 'Q4_K', hint: '4.5 bits, searched' },
    { value: 'IQ4_NL', label: 'IQ4_NL', hint: '4.5 bits, codebook' },
    { value: 'Q4_0', label: 'Q4_0', hint: '4.5 bits, scale' },
    { value: 'IQ4_XS', label: 'IQ4_XS', hint: '4.25 bits, codebook' },
    { value: 'MXFP4', label: 'MXFP4', hint: '4.25 bits, 4-bit floats' },
    { value: 'Q3_K', label: 'Q3_K', hint: '3.44 bits, searched' },
    { value: 'IQ3_S', label: 'IQ3_S', hint: '3.44 bits, grid' },
    { value: 'IQ3_XXS', label: 'IQ3_XXS', hint: '3.06 bits, grid' },
    { value: 'Q2_K', label: 'Q2_K', hint: '2.63 bits, searched' },
    { value: 'IQ2_S', label: 'IQ2_S', hint: '2.56 bits, grid' },
    { value: 'F16', label: 'F16', hint: '16 bits, half precision' },
    { value: 'BF16', label: 'BF16', hint: '16 bits, range of F32' },
    { value: 'F32', label: 'F32', hint: '32 bits' },
  ],
  safetensors: [
    { value: 'BF16', label: 'BF16', hint: '16 bits, range of F32' },
    { value: 'F16', label: 'F16', hint: '16 bits, half precision' },
    { value: 'F32', label: 'F32', hint: '32 bits' },
  ],
  q4: [
    { value: 'asym', label: 'Asymmetric', hint: '5 bits, scale and bias' },
    { value: 'sym', label: 'Symmetric', hint: '5 bits, scale around zero' },
  ],
};

const FIRST: Record<Container, string> = { gguf: 'Q4_0', safetensors: 'F16', q4: 'asym' };

export function wishForm(model: ModelView, changed: (recipe: Recipe) => void): HTMLElement {
  let container: Container = 'gguf';
  let choice = FIRST[container];
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
  const types = h('div', { class: 'field-slot' });
  const tell = () => changed(recipe());
  const mixed = () => container === 'gguf' && MIXES.some((mix) => mix.value === choice);
  const wanted = () => (container === 'q4' ? {} : mixed() ? { mix: choice } : { type: choice });
  const recipe = (): Recipe => ({
    to: container,
    ...wanted(),
    q4_scheme: choice === 'sym' ? 'sym' : 'asym',
    pure: pure.input.checked && container === 'gguf' && !mixed(),
    allow_requantize: again.input.checked,
    ...(nonfinite.input.checked ? { allow_nonfinite: true } : {}),
  });
  const pick = (value: string) => {
    choice = value;
    pure.node.hidden = container !== 'gguf' || mixed();
    tell();
  };
  const offer = () => {
    pure.node.hidden = container !== 'gguf' || mixed();
    const group = uid('choice');
    const one = radios(container === 'q4' ? 'Scheme' : 'One type', TYPES[container], choice, pick, group);
    const mix = radios('A recipe: each tensor as llama-quantize takes it', MIXES, choice, pick, group);
    replace(types, ...(container === 'gguf' ? [one, mix] : [one]));
  };
  const containers = radios('Write', CONTAINERS, container, (value) => {
    container = value as Container;
    choice = FIRST[container];
    offer();
    tell();
  });
  again.node.hidden = !model.quantized;
  for (const box of [pure, again, nonfinite]) box.input.addEventListener('change', tell);
  offer();
  tell();
  const form = h(
    'form',
    { class: 'wish', 'aria-label': 'What to write' },
    containers,
    types,
    pure.node,
    again.node,
    nonfinite.node,
  );
  form.addEventListener('submit', (event) => event.preventDefault());
  return form;
}

function radios(
  legend: string,
  choices: readonly Choice[],
  chosen: string,
  pick: (value: string) => void,
  group = uid('choice'),
): HTMLElement {
  const options = choices.map((c) => {
    const input = h('input', { type: 'radio', name: group, value: c.value, checked: c.value === chosen });
    input.addEventListener('change', () => pick(c.value));
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
