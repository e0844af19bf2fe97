// The cells of the map: layers times modules, each with the error of its tensors in one type.
import { nameParts } from '../names';
import type { ModelView, TensorRow } from '../protocol';
import { errorOf, type MeasuredTable } from '../store';

export interface Cell {
  /** The tensors: several where a layer has experts. */
  tensors: TensorRow[];
  /** The mean of their errors; absent where none was measured. */
  error: number | undefined;
  /** True if a figure is from a sample of the rows. */
  sampled: boolean;
}

export interface MapRow {
  /** The number of the layer; absent for the row of tensors outside the layers. */
  layer: number | undefined;
  cells: ReadonlyMap<string, Cell>;
  mean: number | undefined;
}

export interface ErrorMap {
  modules: string[];
  rows: MapRow[];
  /** Mean error of each module over the layers. */
  means: ReadonlyMap<string, number | undefined>;
  /** Matrices outside the layers. */
  outside: { name: string; cell: Cell }[];
}

/** Matrices of layers by layer and module, in the order of the file. */
export function errorMap(model: ModelView, table: MeasuredTable, type: string): ErrorMap {
  const modules: string[] = [];
  const layers = new Map<number, Map<string, TensorRow[]>>();
  const outside: { name: string; cell: Cell }[] = [];
  for (const tensor of model.tensors) {
    if (tensor.shape.length < 2) continue;
    const { layer, module } = nameParts(tensor.name);
    if (layer === undefined) {
      outside.push({ name: module, cell: cellOf([tensor], table, type) });
      continue;
    }
    if (!modules.includes(module)) modules.push(module);
    const row = layers.get(layer) ?? new Map<string, TensorRow[]>();
    layers.set(layer, row);
    row.set(module, [...(row.get(module) ?? []), tensor]);
  }
  const rows = [...layers].sort(([a], [b]) => a - b).map(([layer, cells]): MapRow => {
    const made = new Map([...cells].map(([module, tensors]) => [module, cellOf(tensors, table, type)]));
    return { layer, cells: made, mean: mean([...made.values()].map((cell) => cell.error)) };
  });
  const means = new Map(modules.map((module) => [module, mean(rows.map((row) => row.cells.get(module)?.error))]));
  return { modules, rows, means, outside };
}

function cellOf(tensors: TensorRow[], table: MeasuredTable, type: string): Cell {
  const error = mean(tensors.map((t) => errorOf(table, t.index, type)));
  return { tensors, error, sampled: tensors.some((t) => table.tensors.get(t.index)?.sampled !== undefined) };
}

function mean(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value): value is number => value !== undefined);
  return known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : undefined;
}

/** All errors of the map. */
export function errorsOf(map: ErrorMap): number[] {
  const cells = [...map.rows.flatMap((row) => [...row.cells.values()]), ...map.outside.map(({ cell }) => cell)];
  return cells.flatMap(({ error }) => error ?? []);
}
