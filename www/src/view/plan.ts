// The plan of a recipe: exact sizes, the new type of each tensor with its reason, and the presets to choose from.
import { apiErrorOf, type Client } from '../client';
import { h, replace } from '../dom';
import { copyButton, jsonButton, tsv } from '../exports';
import { binaryBytes, bytes, fixed, integer, plural, relative } from '../format';
import type { ModelView, ConvertedTensor, PlanView, Recipe } from '../protocol';
import type { Jobs } from '../jobs';
import { conversion } from './convert';
import { curveView } from './curve';
import { Grid, type Column } from './grid';
import { errorNote, warningNotes } from './error_note';
import { requantize, wayOn } from './plan_refused';
import { sizeBar } from './size_bar';
import { tensorName } from './tensor_name';
import { recipeForm, type RecipeForm } from './recipe_form';

/** The nodes of a plan; `refresh` puts in what a conversion has measured. */
interface Shown {
  nodes: (HTMLElement | null)[];
  refresh: () => void;
}

/** `life` ends when the model is closed. */
export function planView(client: Client, jobs: Jobs, model: ModelView, life: AbortSignal): HTMLElement {
  const result = h('div', { class: 'plan-result', 'aria-live': 'polite', 'aria-busy': 'true' });
  let asked = 0;
  let shown: Shown | undefined;
  let form: RecipeForm | undefined;
  const ask = (recipe: Recipe) => {
    const mine = ++asked;
    result.setAttribute('aria-busy', 'true');
    // The first plan of a folder reads its tokenizer.
    if (!shown) replace(result, h('p', { class: 'soft', role: 'status' }, 'Planning\u2026'));
    client
      .call('plan', { model: model.id, recipe })
      .then((plan) => {
        if (mine !== asked) return;
        shown = show(jobs, model, recipe, plan);
        replace(result, shown.nodes);
      })
      .catch((reason: unknown) => {
        if (mine !== asked) return;
        shown = undefined;
        const error = apiErrorOf(reason);
        replace(result, error.code === 'requantize' ? requantize(model, form) : [errorNote(error), wayOn(model, recipe, error, form)]);
        // Which pre-tokenizer it is can be said in the form.
        if (error.file === 'tokenizer.json') form?.showFurther();
      })
      .finally(() => mine === asked && result.setAttribute('aria-busy', 'false'));
  };
  const slot = h('div', { class: 'recipe-slot' });
  client.call('catalog', {}).then(
    (catalog) => {
      form = recipeForm(catalog, model, ask);
      replace(slot, form.node);
    },
    (reason: unknown) => replace(slot, errorNote(apiErrorOf(reason))),
  );
  jobs.watch((_, progressed) => progressed || shown?.refresh(), life);
  const curve = curveView(client, model, (preset) => form?.choosePreset(preset), life);
  return h('div', { class: 'plan' }, slot, h('div', { class: 'plan-side' }, result, curve));
}

function show(jobs: Jobs, model: ModelView, recipe: Recipe, plan: PlanView): Shown {
  const table = decisions(model, plan);
  const convert = conversion(jobs, model, recipe, plan);
  let rows: readonly ConvertedTensor[] = plan.tensors;
  const refresh = () => {
    convert.refresh();
    const measured = jobs.measured(model, recipe);
    // Showing the same rows again would scroll them to the top.
    if (measured && measured !== rows) table.show((rows = measured));
  };
  refresh();
  const [blocking, others] = [true, false].map((first) =>
    plan.warnings.filter((w) => (w.code === 'not_runnable') === first).map((w) => w.message),
  );
  return {
    nodes: [
      warningNotes(blocking ?? []),
      figures(model, plan),
      convert.node,
      sizeBars(model, plan),
      warningNotes(others ?? []),
      table.node,
    ],
    refresh,
  };
}

/** The ratio is the core's; where it cannot be computed it is not shown. */
function figures(model: ModelView, plan: PlanView): HTMLElement {
  return h(
    'div',
    { class: 'outcome' },
    h(
      'p',
      { class: 'from' },
      h('span', { class: 'soft small' }, 'Source'),
      h('span', { class: 'num' }, bytes(model.fileBytes)),
    ),
    h('p', { class: 'arrow', 'aria-hidden': 'true' }, '\u2192'),
    h(
      'p',
      { class: 'to' },
      h('span', { class: 'soft small' }, 'Output size (exact)'),
      figure(plan.totals.total_bytes_out),
      h(
        'span',
        { class: 'num small soft' },
        `${integer(plan.totals.total_bytes_out)} bytes, ${binaryBytes(plan.totals.total_bytes_out)}`,
      ),
    ),
    h(
      'dl',
      { class: 'side' },
      plan.totals.ratio !== undefined && pair('Compression', `${fixed(plan.totals.ratio, 2)}\u00d7`),
      pair('Bits per weight', fixed(plan.totals.bits_per_weight, 2)),
      pair('Quantized', integer(plan.totals.planned_quantized)),
      pair('Unchanged', integer(plan.totals.kept)),
    ),
  );
}

/** The number large, its unit beside it. */
function figure(size: number): HTMLElement {
  const [number, unit] = bytes(size).split('\u00a0');
  return h('span', { class: 'big' }, number, h('span', { class: 'unit' }, `\u00a0${unit}`));
}

function pair(name: string, value: string): HTMLElement {
  return h('div', {}, h('dt', {}, name), h('dd', { class: 'num' }, value));
}

/** Both bars share one scale: what is missing on the right of the second is what was saved. */
function sizeBars(model: ModelView, plan: PlanView): HTMLElement {
  const scale = Math.max(
    model.bytes,
    plan.tensors.reduce((sum, r) => sum + r.bytes_out, 0),
  );
  const before = sizeBar('The model now, one block per tensor');
  const after = sizeBar('The model as planned, one block per tensor, at the same scale');
  before.show(
    model.tensors.map((t) => ({ name: t.name, bytes: t.bytes, tone: t.shape.length > 1 ? 'matrix' : 'vector' })),
    scale,
  );
  after.show(
    plan.tensors.map((r) => ({
      name: r.name,
      bytes: r.bytes_out,
      tone: quantized(r) ? 'made' : r.shape.length > 1 ? 'matrix' : 'vector',
    })),
    scale,
  );
  return h(
    'figure',
    { class: 'size-bar' },
    before.node,
    after.node,
    h(
      'figcaption',
      {},
      h('span', { class: 'key' }, 'unchanged'),
      h('span', { class: 'key made' }, 'quantized'),
      h('span', { class: 'key vector' }, 'vectors, unchanged'),
    ),
  );
}

const COLUMNS: Column<ConvertedTensor>[] = [
  {
    key: 'name',
    label: 'Tensor',
    track: 'minmax(0, 1fr)',
    narrow: 'minmax(0, 1fr)',
    class: 'name',
    cell: (r) =>
      tensorName(
        r.name,
        `${r.dtype_in === r.dtype_out ? '' : `${r.dtype_in} \u2192 `}${r.dtype_out}, ${reason(r)}`,
      ),
    by: (r) => r.name,
  },
  {
    key: 'to',
    label: 'New type',
    track: '10.5rem',
    cell: (r) => becomes(r),
    by: (r) => r.dtype_out,
  },
  {
    key: 'out',
    label: 'New size',
    track: '5.6rem',
    narrow: '5.2rem',
    class: 'num',
    right: true,
    cell: (r) => h('span', { title: `${integer(r.bytes_out)} bytes` }, bytes(r.bytes_out)),
    by: (r) => r.bytes_out,
  },
  {
    key: 'error',
    label: 'Relative error',
    track: '6.6rem',
    class: 'num',
    right: true,
    cell: (r) => relative(r.error?.relative_error),
    by: (r) => r.error?.relative_error ?? null,
  },
  {
    key: 'reason',
    extra: true,
    label: 'Reason',
    track: 'minmax(0, 1.1fr)',
    class: 'soft',
    cell: (r) => h('span', { title: reason(r) }, reason(r)),
    by: reason,
  },
];

/** Why a tensor has its type, with the way to change it on this page. */
function reason(r: ConvertedTensor): string {
  const { code, text } = r.reason;
  const tick = `stays ${r.dtype_out} (tick \u201ctoken embeddings and lm_head\u201d to change)`;
  if (code === 'embedding') return `Token embedding ${tick}`;
  if (code === 'output' && text.includes('--pure')) return `lm_head ${tick}`;
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return code === 'weight' && quantized(r) ? `${sentence}: quantized` : sentence;
}

/** Block types carry the colour of change, plain types do not. */
function quantized(r: ConvertedTensor): boolean {
  return r.action === 'quantize' || r.action === 'transcode';
}

function becomes(r: ConvertedTensor): HTMLElement {
  const to = h('span', { class: quantized(r) ? 'tag made' : 'tag plain' }, r.dtype_out);
  return r.dtype_in === r.dtype_out
    ? to
    : h('span', { class: 'change' }, h('span', { class: 'was' }, `${r.dtype_in} \u2192 `), to);
}

/** What `quantize --dry-run --json` prints. */
function dryRun({ files: _, ...result }: PlanView): unknown {
  return { dry_run: true, result };
}

/** The error of each tensor is known, and shown, once it has been written. */
function decisions(model: ModelView, plan: PlanView): { node: HTMLElement; show: (tensors: readonly ConvertedTensor[]) => void } {
  const grid = new Grid<ConvertedTensor>({
    label: 'Decision for each tensor',
    columns: COLUMNS,
    empty: 'The plan writes no tensor.',
  });
  let rows: readonly ConvertedTensor[] = plan.tensors;
  const show = (tensors: readonly ConvertedTensor[]) => grid.show((rows = tensors));
  show(rows);
  const table = () =>
    tsv(
      ['tensor', 'from', 'to', 'bytes', 'relative_error', 'reason'],
      rows.map((r) => [r.name, r.dtype_in, r.dtype_out, r.bytes_out, r.error?.relative_error, r.reason.text]),
    );
  const node = h(
    'section',
    { class: 'decisions' },
    h(
      'div',
      { class: 'titled' },
      h('h2', {}, `Plan: ${plural(plan.tensors.length, 'tensor')}`),
      h('p', { class: 'exports' }, copyButton('Copy table', table), jsonButton([model.name, 'plan'], () => dryRun(plan))),
    ),
    grid.node,
  );
  return { node, show };
}
