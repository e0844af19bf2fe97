// The presets of GGUF for a model: bytes of the weights by their plans, and the error of the whole model by the sweep.
import { signal } from '@preact/signals-core';
import { apiErrorOf, type Client } from './client';
import type { Catalog, EncodingRow, ModelView, PresetInfo, Recipe, StatsView } from './protocol';
import type { MeasuredTable } from './store';

export interface PlannedPreset {
  preset: string;
  /** In the spelling of llama.cpp. */
  name: string;
  /** True for the few that most people use. */
  usual: boolean;
  /** Of all tensors, planned under their names in the source. */
  bytes: number;
  bitsPerWeight: number;
  /** New types by tensor index; absent for tensors that keep theirs. */
  types: ReadonlyMap<number, string>;
}

/** Plans of presets that are known, and why the others are not. */
export const plannedPresets = signal<readonly PlannedPreset[]>([]);
export const presetsRefused = signal<string | undefined>(undefined);

/** Presets whose plan was asked for. */
const asked = new Set<string>();

/** Forgets the plans of the model before. */
export function forgetPresets(): void {
  asked.clear();
  plannedPresets.value = [];
  presetsRefused.value = undefined;
}

/** Plans the presets that are not planned yet, of which `wanted` is true. A plan reads no weights. */
export async function planPresets(
  client: Client,
  model: ModelView,
  { presets, types }: Catalog,
  life: AbortSignal,
  wanted: (preset: PresetInfo) => boolean,
): Promise<void> {
  const quantized = new Set(types.filter((t) => t.quantized).map((t) => t.dtype));
  for (const preset of presets.filter((p) => wanted(p) && quantized.has(p.base))) {
    if (life.aborted) return;
    if (asked.has(preset.preset)) continue;
    asked.add(preset.preset);
    try {
      const plan = await planned(client, model, preset);
      if (life.aborted) return;
      plannedPresets.value = [...plannedPresets.value, plan].sort((a, b) => b.bytes - a.bytes);
    } catch (reason) {
      if (life.aborted) return;
      // Presets that need an importance matrix are left out.
      const { code, message } = apiErrorOf(reason);
      if (code === 'requantize' || preset.usual) presetsRefused.value = message;
      if (code === 'requantize') return;
    }
  }
}

async function planned(client: Client, model: ModelView, { preset, usual }: PresetInfo): Promise<PlannedPreset> {
  // Names of the source need neither a tokenizer nor the full module. The tensors of a converted checkpoint can differ, as
  // where embedding and output are tied, so the bytes of a checkpoint are not those of the file to the byte.
  const recipe: Recipe = { to: 'gguf', mix: preset, names: 'source' };
  const { tensors } = await client.call('plan', { model: model.id, recipe });
  const indices = new Map(model.tensors.map((t) => [t.name, t.index]));
  const bytes = tensors.reduce((sum, t) => sum + t.bytes_out, 0);
  const weights = tensors.reduce((sum, t) => sum + t.numel, 0);
  const types = new Map<number, string>();
  for (const t of tensors) {
    const index = indices.get(t.name);
    const changed = t.action === 'quantize' || t.action === 'transcode';
    if (changed && index !== undefined) types.set(index, t.dtype_out.toLowerCase());
  }
  return { preset, name: preset.toUpperCase(), usual, bytes, bitsPerWeight: (8 * bytes) / Math.max(1, weights), types };
}

/**
 * The relative error of all matrices together: the root of the sum of their squared errors over the sum of their squared
 * weights. Absent while a tensor lacks a figure in its type; `sampled` where a figure is of a sample of the rows.
 */
export function presetError({ types }: PlannedPreset, model: ModelView, table: MeasuredTable): { error: number; sampled: boolean } | undefined {
  let sampled = false;
  let [noise, power] = [0, 0];
  for (const [index, known] of table.tensors) {
    const tensor = model.tensors[index];
    if (!tensor || tensor.shape.length < 2) continue;
    power += tensor.elements * meanSquare(known.stats, known.errors);
    const type = types.get(index);
    if (type === undefined) continue;
    const found = known.errors.get(type);
    if (found?.rmse === undefined) return undefined;
    sampled ||= found.sampled !== undefined;
    noise += tensor.elements * found.rmse ** 2;
  }
  const complete = [...types.keys()].every((index) => table.tensors.has(index));
  return complete && power > 0 ? { error: Math.sqrt(noise / power), sampled } : undefined;
}

/** The mean of the squares of a tensor's weights. */
function meanSquare(stats: StatsView | undefined, errors: ReadonlyMap<string, EncodingRow>): number {
  if (stats?.mean !== undefined && stats.std !== undefined) return stats.mean ** 2 + stats.std ** 2;
  for (const { rmse, relative_error: error } of errors.values()) if (rmse !== undefined && error) return (rmse / error) ** 2;
  return 0;
}
