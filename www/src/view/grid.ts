// A table of any length: fixed-height rows, of which only those in sight exist, as an ARIA grid.
//
// The scroller keeps the focus and names its active row, so a row may leave the document without losing anything.
import { h, replace, uid, vary } from '../dom';
import type { Column, GridOptions, Sort } from './grid_options';
import { order } from './grid_order';

export type { Column } from './grid_options';

/** Rows beyond the visible ones, so that a fast scroll finds them drawn. */
const MARGIN = 6;

export class Grid<T> {
  readonly node: HTMLElement;
  private readonly head: HTMLElement;
  private readonly body: HTMLElement;
  private readonly live = new Map<number, HTMLElement>();
  private readonly prefix = uid('row');
  private all: readonly T[] = [];
  private shown: T[] = [];
  private keep: (row: T) => boolean = () => true;
  private sort: Sort | undefined;
  private active = 0;
  private selected: T | undefined;
  private pending = 0;

  constructor(private readonly options: GridOptions<T>) {
    this.sort = options.sort;
    this.head = h('div', { class: 'grid-head', role: 'row', 'aria-rowindex': 1 });
    this.body = h('div', { class: 'grid-body', role: 'rowgroup' });
    this.node = h(
      'div',
      {
        class: 'grid',
        role: 'grid',
        tabindex: 0,
        'aria-label': options.label,
        'aria-colcount': options.columns.length,
      },
      h('div', { class: 'grid-top', role: 'rowgroup' }, this.head),
      this.body,
    );
    const tracks = (of: (c: Column<T>) => string | false | undefined) =>
      options.columns.map(of).filter(Boolean).join(' ');
    // Below this the columns in it leave no room for a name.
    if (options.wide) this.node.classList.add('many');
    vary(
      this.node,
      '--columns',
      tracks((c) => c.track),
    );
    vary(
      this.node,
      '--fewer-columns',
      tracks((c) => !c.extra && c.track),
    );
    vary(
      this.node,
      '--narrow-columns',
      tracks((c) => c.narrow),
    );
    this.node.addEventListener('scroll', () => this.schedule(), { passive: true });
    this.node.addEventListener('keydown', (event) => this.key(event));
    this.body.addEventListener('click', (event) => this.click(event));
    new ResizeObserver(() => this.refresh()).observe(this.node);
    this.drawHead();
  }

  get rows(): readonly T[] {
    return this.shown;
  }

  /** The key of the column that the rows are sorted by. */
  get sortedBy(): string | undefined {
    return this.sort?.key;
  }

  show(rows: readonly T[]): void {
    this.all = rows;
    this.rebuild();
  }

  filter(keep: (row: T) => boolean): void {
    this.keep = keep;
    this.node.scrollTop = 0;
    this.active = 0;
    this.rebuild();
  }

  /** Groups and sorts the rows again, and keeps the place. */
  rearrange(): void {
    const at = this.shown[this.active];
    this.rebuild();
    const now = at === undefined ? -1 : this.shown.indexOf(at);
    if (now >= 0) this.active = now;
    this.draw();
  }

  /** Draws the rows in sight again: what their cells show has changed. */
  redraw(): void {
    for (const row of this.live.values()) row.remove();
    this.live.clear();
    this.draw();
  }

  /** Draws the heads again: a label has changed. */
  relabel(): void {
    this.drawHead();
  }

  /** Marks a row and brings it into sight, without calling back. */
  select(row: T | undefined): void {
    this.selected = row;
    const at = row === undefined ? -1 : this.shown.indexOf(row);
    if (at >= 0) this.reach(at);
    this.refresh();
  }

  private get height(): number {
    return parseFloat(getComputedStyle(this.node).getPropertyValue('--row')) || 38;
  }

  private rebuild(): void {
    const kept = this.all.filter(this.keep);
    const column = this.options.columns.find((c) => c.key === this.sort?.key);
    const compare = column?.by && this.sort && order(column.by, this.sort.down);
    if (this.options.arrange) this.shown = this.options.arrange(kept, compare || undefined);
    else this.shown = compare ? kept.sort(compare) : kept;
    this.active = Math.min(this.active, Math.max(0, this.shown.length - 1));
    this.node.setAttribute('aria-rowcount', String(this.shown.length + 1));
    this.refresh();
  }

  private refresh(): void {
    for (const row of this.live.values()) row.remove();
    this.live.clear();
    this.body.style.height = `${Math.max(1, this.shown.length) * this.height}px`;
    vary(this.node, '--rows', Math.max(2, this.all.length));
    if (this.shown.length === 0) replace(this.body, this.emptyRow());
    else this.body.replaceChildren();
    this.draw();
  }

  private emptyRow(): HTMLElement {
    return h('div', { role: 'row' }, h('div', { role: 'gridcell', class: 'grid-empty' }, this.options.empty));
  }

  private schedule(): void {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  private draw(): void {
    const height = this.height;
    const first = Math.max(0, Math.floor(this.node.scrollTop / height) - MARGIN);
    const last = Math.min(
      this.shown.length,
      Math.ceil((this.node.scrollTop + this.node.clientHeight) / height) + MARGIN,
    );
    const wanted = (i: number) => (i >= first && i < last) || i === this.active;
    for (const [i, row] of this.live) {
      if (wanted(i)) continue;
      row.remove();
      this.live.delete(i);
    }
    for (let i = first; i < last; i += 1) this.place(i, height);
    if (this.active < this.shown.length) this.place(this.active, height);
    this.mark();
  }

  private place(i: number, height: number): void {
    const item = this.shown[i];
    if (item === undefined || this.live.has(i)) return;
    const row = h(
      'div',
      { class: 'grid-row', role: 'row', id: `${this.prefix}-${i}`, 'aria-rowindex': i + 2 },
      this.options.columns.map((c, k) =>
        h('div', { role: 'gridcell', class: classes(c), 'aria-colindex': k + 1 }, c.cell(item)),
      ),
    );
    const mark = this.options.mark?.(item);
    if (mark) row.classList.add(mark);
    vary(row, '--y', `${i * height}px`);
    row.dataset['at'] = String(i);
    this.live.set(i, row);
    this.body.append(row);
  }

  private mark(): void {
    for (const [i, row] of this.live) {
      row.classList.toggle('active', i === this.active);
      row.setAttribute('aria-selected', String(this.selected !== undefined && this.shown[i] === this.selected));
    }
    if (this.shown.length > 0) this.node.setAttribute('aria-activedescendant', `${this.prefix}-${this.active}`);
    else this.node.removeAttribute('aria-activedescendant');
  }

  private drawHead(): void {
    const cells = this.options.columns.map((c, k) => {
      const mine = this.sort?.key === c.key;
      const by = c.by ? (mine ? (this.sort?.down ? 'descending' : 'ascending') : 'none') : undefined;
      const label = c.by
        ? h('button', { type: 'button', on: { click: () => this.turn(c.key) } }, labelOf(c))
        : h('span', { class: 'soft small' }, labelOf(c));
      return h('div', { role: 'columnheader', class: classes(c), 'aria-sort': by, 'aria-colindex': k + 1 }, label);
    });
    const focused = [...this.head.children].findIndex((cell) => cell.contains(document.activeElement));
    replace(this.head, cells);
    if (focused >= 0) cells[focused]?.querySelector('button')?.focus();
  }

  private turn(key: string): void {
    const again = this.sort?.key === key;
    this.sort = { key, down: again ? !this.sort?.down : false };
    this.drawHead();
    this.rebuild();
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.node || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.height) - 2);
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[event.key];
    if (step !== undefined) this.walk(this.active + step);
    else if (event.key === 'Enter' || event.key === ' ') this.choose(this.active);
    else return;
    event.preventDefault();
  }

  private walk(to: number): void {
    this.reach(to);
    const item = this.shown[this.active];
    if (item !== undefined && this.selected !== undefined) this.options.follow?.(item);
  }

  private reach(to: number): void {
    this.active = Math.max(0, Math.min(this.shown.length - 1, to));
    const head = this.head.offsetHeight;
    const top = this.active * this.height;
    const sight = this.node.clientHeight - head;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (top + this.height > this.node.scrollTop + sight) this.node.scrollTop = top + this.height - sight;
    this.draw();
  }

  private click(event: MouseEvent): void {
    const row = (event.target as Element).closest<HTMLElement>('.grid-row');
    if (row) this.choose(Number(row.dataset['at']));
  }

  private choose(i: number): void {
    const item = this.shown[i];
    if (item === undefined) return;
    this.active = i;
    if (!this.options.choose) return this.mark();
    if (this.options.selects?.(item) ?? true) this.selected = item;
    this.mark();
    this.options.choose(item);
  }
}

function labelOf<T>({ label }: Column<T>): string {
  return typeof label === 'string' ? label : label();
}

function classes<T>(column: Column<T>): string {
  return [column.class, column.right && 'right', column.narrow === undefined && 'wide', column.extra && 'extra'].filter(Boolean).join(' ');
}
