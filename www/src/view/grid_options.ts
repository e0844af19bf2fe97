// What a table shows: its columns and the options of its rows.
import type { Child } from '../dom';
import type { Compare } from './grid_order';

export interface Column<T> {
  key: string;
  label: string | (() => string);
  /** A CSS grid track. */
  track: string;
  /** Track on a narrow screen; columns without one are hidden there. */
  narrow?: string;
  /** Hidden first where the table is narrow, so that names keep their room. */
  extra?: boolean;
  right?: boolean;
  class?: string;
  cell: (row: T) => Child;
  /** What to sort by; absent values go last. */
  by?: (row: T) => number | string | null;
}

export interface Sort {
  key: string;
  down: boolean;
}

export interface GridOptions<T> {
  label: string;
  columns: Column<T>[];
  sort?: Sort;
  /** True for many columns: those that are `extra` go sooner. */
  wide?: boolean;
  empty: string;
  /** The row's text for assistive technology when it becomes active, and for choosing it. */
  choose?: (row: T) => void;
  /** False for rows that are chosen without becoming the selected one. */
  selects?: (row: T) => boolean;
  /** The row that the keyboard came to, once a row is selected. */
  follow?: (row: T) => void;
  /** A class for some rows. */
  mark?: (row: T) => string | undefined;
  /** The rows to show, of those that the filter keeps: it groups and sorts them. `compare` is absent for file order. */
  arrange?: (kept: T[], compare: Compare<T> | undefined) => T[];
}
