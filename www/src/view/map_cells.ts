// The cells of the map: layers times modules, each with the error of its tensors in one type.
import { layerName, nameParts, stacksOf } from '../names';
import type { ModelView, TensorRow } from '../protocol';
import { errorOf, isEstimate, type MeasuredTable } from '../store';

/** A mean of errors. */
export interface MeanError {
  /** Absent where none was measured. */
  error: number | undefined;
  /** True if a figure is from a sample of the rows. */
  sampled: boolean;
}

/** The mean over the tensors of a module in a layer: several where a layer has experts. */
export interface Cell extends MeanError {
  tensors: TensorRow[];
}

export interface MapRow {
  /** The number of the layer, after its stack where the model has several. */
  name: string;
  stack: string;
  layer: number;
  cells: ReadonlyMap<string, Cell>;
  mean: MeanError;
}

/** The means over the layers of a stack, by module. */
export interface StackMeans {
  name: string;
  modules: ReadonlyMap<string, MeanError>;
}

export interface ErrorMap {
  modules: string[];
  rows: MapRow[];
  means: StackMeans[];
  /** Matrices outside the layers. */
  outside: { name: string; cell: Cell }[];
}

/** Matrices of layers by layer and module, in the order of the file. */
export function errorMap(model: ModelView, table: MeasuredTable, type: string): ErrorMap {
  const modules = new Set<string>();
  const layers = new Map<string, { stack: string; layer: number; cells: Map<string, TensorRow[]> }>();
  const outside: { name: string; cell: Cell }[] = [];
  const matrices = model.tensors.filter((t) => t.shape.length > 1).map((tensor) => ({ tensor, parts: nameParts(tensor.name) }));
  const stacks = stacksOf(matrices.map(({ parts }) => parts));
  const several = stacks.length > 1;
  for (const { tensor, parts } of matrices) {
    const { layer, stack = '', module } = parts;
    if (layer === undefined) {
      outside.push({ name: module, cell: cellOf([tensor], table, type) });
      continue;
    }
    modules.add(module);
    const key = `${stack}.${layer}`;
    const row = layers.get(key) ?? { stack, layer, cells: new Map<string, TensorRow[]>() };
    layers.set(key, row);
    const cell = row.cells.get(module);
    if (cell) cell.push(tensor);
    else row.cells.set(module, [tensor]);
  }
  const place = new Map(stacks.map((stack, i) => [stack, i]));
  const sorted = [...layers.values()].sort((a, b) => (place.get(a.stack) ?? 0) - (place.get(b.stack) ?? 0) || a.layer - b.layer);
  const rows = sorted.map(({ stack, layer, cells }): MapRow => {
    const made = new Map([...cells].map(([module, tensors]) => [module, cellOf(tensors, table, type)]));
    return { name: layerName(stack, layer, several), stack, layer, cells: made, mean: meanOf([...made.values()]) };
  });
  const means = stacks.map((stack): StackMeans => {
    const mine = rows.filter((row) => row.stack === stack);
    const present = [...modules].filter((module) => mine.some((row) => row.cells.has(module)));
    const over = (module: string) => meanOf(mine.flatMap((row) => row.cells.get(module) ?? []));
    return { name: several ? `Mean of ${stack}` : 'Mean', modules: new Map(present.map((module) => [module, over(module)])) };
  });
  return { modules: [...modules], rows, means, outside };
}

function cellOf(tensors: TensorRow[], table: MeasuredTable, type: string): Cell {
  const figures = tensors.map(({ index }) => ({ error: errorOf(table, index, type), sampled: isEstimate(table, index, type) }));
  return { tensors, ...meanOf(figures) };
}

function meanOf(figures: readonly MeanError[]): MeanError {
  let [sum, count] = [0, 0];
  for (const { error } of figures) {
    if (error === undefined) continue;
    sum += error;
    count += 1;
  }
  return { error: count > 0 ? sum / count : undefined, sampled: figures.some(({ sampled }) => sampled) };
}

/** All errors of the map. */
export function errorsOf(map: ErrorMap): number[] {
  const cells = [...map.rows.flatMap((row) => [...row.cells.values()]), ...map.outside.map(({ cell }) => cell)];
  return cells.flatMap(({ error }) => error ?? []);
}
