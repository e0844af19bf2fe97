// The button that starts a conversion, where its result goes, and the same conversion as a command.
import { h } from '../dom';
import { copyButton } from '../exports';
import { bytes, plural } from '../format';
import type { Jobs } from '../jobs';
import type { ModelView, PlanView, Recipe, Target } from '../protocol';

/** The parts of the file system API that only some browsers have. */
interface Pickers {
  showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;
  showDirectoryPicker?: (options: { mode: 'readwrite' }) => Promise<FileSystemDirectoryHandle>;
}

export interface Conversion {
  node: HTMLElement;
  /** Updates the note beside the button: it depends on whether a conversion runs. */
  refresh: () => void;
}

export function conversion(jobs: Jobs, model: ModelView, recipe: Recipe, plan: PlanView): Conversion {
  const name = outputName(model, recipe, plan);
  const where = h('span', { class: 'where soft small' });
  const refresh = () => {
    const waits = jobs.active.length > 0 ? ' It starts when the conversion before it is done.' : '';
    const text = place(plan) + waits;
    // The region is live: screen readers announce every change of the text.
    if (where.textContent !== text) where.textContent = text;
  };
  const begin = async () => {
    const target = await askTarget(plan, name).catch(() => null);
    if (target) jobs.add({ model, recipe, name: target.kind === 'file' ? target.handle.name : name, target });
  };
  const go = h('button', { type: 'button', class: 'primary', on: { click: () => void begin() } }, 'Quantize and save');
  const size = h('span', { class: 'size', 'aria-hidden': 'true' }, bytes(plan.totals.total_bytes_out));
  const act = h('div', { class: 'act' }, go, size, where);
  const node = h('section', { class: 'convert', 'aria-label': 'Quantize and save' }, act, command(model, recipe, plan));
  refresh();
  return { node, refresh };
}

/** The same work for a script: the page and the command line write the same bytes. */
function command(model: ModelView, recipe: Recipe, plan: PlanView): HTMLElement | null {
  // The command line writes such a folder only with its verb `rotate`.
  if (recipe.to === 'hf_folder') return null;
  const words = [
    'quantoscope quantize',
    argument(model.name.includes(' ') ? (model.folder ?? 'MODEL') : model.name),
    '-o',
    argument(outputName(model, recipe, plan).replace(/\.tar$/, '')),
  ];
  if (plan.directory) words.push('--to', recipe.to);
  if (recipe.type) words.push('--type', recipe.type.toLowerCase());
  if (recipe.mix) words.push('--recipe', recipe.mix);
  if (recipe.q4_scheme === 'sym') words.push('--q4-scheme sym');
  for (const { pattern, type } of recipe.overrides ?? []) words.push('--tensor-type', quoted(`${pattern}=${type}`));
  for (const name of recipe.exclude ?? []) words.push('--exclude', quoted(name));
  if (recipe.pure) words.push('--pure');
  if (recipe.names) words.push('--names', recipe.names);
  if (recipe.pre_tokenizer) words.push('--pre-tokenizer', recipe.pre_tokenizer);
  if (recipe.compat) words.push('--compat llama.cpp');
  if (recipe.allow_requantize) words.push('--allow-requantize');
  if (recipe.allow_nonfinite) words.push('--allow-nonfinite');
  const converted = recipe.to === 'gguf' && model.container === 'safetensors' && recipe.names !== 'source';
  // The command line names the model by the folder of its files, if nothing else names it.
  const same = converted && model.folder === null ? 'The same from a terminal, named by its folder: ' : 'The same bytes from a terminal: ';
  const text = words.join(' ');
  return h('p', { class: 'small soft command' }, same, h('code', {}, text), ' ', copyButton('Copy', () => text));
}

/** A path for a shell, which no program takes for an option. */
function argument(path: string): string {
  return quoted(path.startsWith('-') ? `./${path}` : path);
}

/** An argument for a shell. */
function quoted(text: string): string {
  return /^[\w.,:/=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function outputName(model: ModelView, recipe: Recipe, plan: PlanView): string {
  const stem = model.name.replace(/\.(safetensors|gguf|apr|index\.json)$/i, '').replace(/[^\w.-]+/g, '-') || 'model';
  const types = (recipe.mix ?? recipe.type ?? recipe.q4_scheme ?? 'auto').toLowerCase();
  if (plan.directory) return `${stem}-${recipe.to}-${types}.tar`;
  return `${stem}-${types}.${recipe.to}`;
}

/** Says where the result will go; that depends on the browser. */
function place(plan: PlanView): string {
  const pickers = window as Pickers;
  if (!plan.directory)
    return pickers.showSaveFilePicker ? 'You choose where it is saved.' : 'It is saved as a download.';
  const files = plural(plan.files.length, 'file');
  return pickers.showDirectoryPicker
    ? `${files}, into a folder that you choose.`
    : `${files}, downloaded as one .tar archive.`;
}

async function askTarget({ directory }: PlanView, name: string): Promise<Target> {
  const pickers = window as Pickers;
  if (directory && pickers.showDirectoryPicker)
    return { kind: 'directory', handle: await pickers.showDirectoryPicker({ mode: 'readwrite' }) };
  if (!directory && pickers.showSaveFilePicker)
    return { kind: 'file', handle: await pickers.showSaveFilePicker({ suggestedName: name }) };
  return { kind: 'private' };
}
