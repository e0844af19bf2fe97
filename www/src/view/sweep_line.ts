// The line of the shell about the background sweep: how far it is, with Pause, and exports of its report.
import { effect } from '@preact/signals-core';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { h } from '../dom';
import { copyButton, jsonButton, tsv } from '../exports';
import { integer, plural } from '../format';
import { measurableTypes, model, sweepState, type SweepState } from '../store';
import { FIRST_TYPES, ROWS, type Sweep } from '../sweep';
import { typeName } from './type_name';

const HEADS = ['tensor', 'type', 'bits_per_weight', 'rmse', 'relative_error', 'sqnr_db', 'cosine', 'sampled_rows'];

/** `running` gives the sweep of the open model. */
export function sweepLine(running: () => Sweep | undefined): HTMLElement {
  const node = h('section', { class: 'sweep-line', 'aria-label': 'Background sweep', tabindex: -1 });
  const table = () =>
    tsv(
      HEADS,
      (running()?.report()?.tensors ?? []).flatMap((t) =>
        (t.encodings ?? []).map((e) => [t.name, e.encoding, e.bits_per_weight, e.rmse, e.relative_error, e.sqnr_db, e.cosine, t.sampled?.rows]),
      ),
    );
  const exports = h(
    'span',
    { class: 'exports' },
    copyButton('Copy table', table),
    jsonButton(() => [model.value?.name ?? 'model', 'sweep'], () => running()?.report()),
  );
  effect(() => {
    node.dataset['state'] = sweepState.value.kind;
    node.hidden = model.value === undefined || sweepState.value.kind === 'off';
    const inside = node.contains(document.activeElement);
    render(line(sweepState.value, exports, running), node);
    // The focused button may be gone.
    if (inside && !node.contains(document.activeElement)) (node.hidden ? document.querySelector<HTMLElement>('main') : node)?.focus({ preventScroll: true });
  });
  return node;
}

function line(state: SweepState, exports: HTMLElement, running: () => Sweep | undefined): TemplateResult | typeof nothing {
  if (state.kind === 'off') return nothing;
  if (state.kind === 'failed') return html`<p class="small" role="status">No errors were measured: ${state.message}</p>`;
  if (state.kind === 'done' && state.total === 0) return html`<p class="small soft">This model has no matrix that can be measured.</p>`;
  if (state.kind === 'done') {
    const again = model.value?.quantized ? ' Errors are those of quantizing the values in this file again.' : '';
    const more = unmeasured(state.types);
    return html`<p class="small soft">
        Error of ${integer(state.types.length)} types on ${plural(state.total, 'matrix', 'matrices')}, estimated from
        ${ROWS} rows of each. Open a tensor for exact figures.${again}
      </p>
      ${state.failure === undefined ? nothing : html`<p class="small" role="status">Other types were not measured: ${state.failure}</p>`}
      ${more.length > 0
        ? html`<button type="button" class="quiet small" @click=${() => void running()?.measure(more)}>
            Measure ${integer(more.length)} more types
          </button>`
        : nothing}
      ${exports}`;
  }
  const paused = state.kind === 'paused';
  const names = state.now.length > FIRST_TYPES.length ? `${integer(state.now.length)} types` : state.now.map(typeName).join(', ');
  return html`<p class="small soft">
      ${paused ? 'Paused' : 'Measuring'}: ${integer(state.done)} of ${plural(state.total, 'matrix', 'matrices')}, ${ROWS} rows
      of each, as ${names}
    </p>
    <progress aria-hidden="true" max=${Math.max(1, state.total)} .value=${state.done}></progress>
    <button type="button" class="quiet small" @click=${() => running()?.pause(!paused)}>${paused ? 'Continue' : 'Pause'}</button>`;
}

/** Types of GGUF that need no importance matrix and were not measured. */
function unmeasured(types: readonly string[]): string[] {
  return measurableTypes.value.filter((name) => !types.includes(name));
}
