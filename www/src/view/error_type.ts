// The choice of the type whose error is shown, shared by all views, and the bar of an error.
import { effect } from '@preact/signals-core';
import { h, replace, vary } from '../dom';
import { relative } from '../format';
import { errorType, measurableTypes, measuredTypes } from '../store';
import { typeName } from './type_name';

/** The relative error that fills a bar. */
export const FULL_ERROR = 0.3;

/** Shorter is better. An estimate is marked. */
export function errorBar(error: number | undefined, estimated: boolean): HTMLElement {
  if (error === undefined) return h('span', { class: 'soft' }, '\u2013');
  const bar = h('span', { class: 'bar rose', 'aria-hidden': 'true' });
  vary(bar, '--part', Math.min(1, error / FULL_ERROR));
  const mark = estimated ? h('span', { class: 'soft', title: 'Estimated from some of its rows' }, '\u2248\u2009') : false;
  return h('span', { class: 'share error-share' }, bar, h('span', { class: 'num right' }, mark, relative(error)));
}

/** All types that a sweep can measure, those with figures first. */
function choices(): { swept: string[]; others: string[] } {
  const swept = [...measuredTypes.value];
  const others = measurableTypes.value.filter((name) => !swept.includes(name));
  if (!swept.includes(errorType.value) && !others.includes(errorType.value)) swept.push(errorType.value);
  return { swept, others };
}

export function typeSelect(label: string, life: AbortSignal): HTMLElement {
  const select = h('select', { 'aria-label': `${label} type` });
  const option = (name: string) => h('option', { value: name }, typeName(name));
  let listed = '';
  const end = effect(() => {
    const { swept, others } = choices();
    const key = `${swept.join()}|${others.join()}`;
    if (key !== listed) {
      listed = key;
      const more = others.length > 0 && h('optgroup', { label: 'Measured on request' }, others.map(option));
      replace(select, swept.map(option), more);
    }
    select.value = errorType.value;
  });
  select.addEventListener('change', () => (errorType.value = select.value));
  life.addEventListener('abort', end);
  return h('label', { class: 'type-select small' }, h('span', { class: 'soft' }, label), select);
}
