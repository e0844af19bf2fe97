// The size of the key-value cache of a model, by the rows of its key and value projections.
import type { ModelView } from './protocol';

/** Bytes of a value in F16. */
const F16 = 2;

/** Key and value projections in the names of Hugging Face and of GGUF. */
const KEYS_OR_VALUES = /(^|\.)(?:[kv]_proj|attn_[kv])\.(?:weight|qweight)$/;

/** Projections of latent attention, whose cache holds a compressed vector. */
const LATENT = /(^|\.)(?:kv_a_proj_with_mqa|attn_kv_a_mqa)\.weight$/;

/** Towers and encoders, which keep nothing between tokens. */
const OUTSIDE = /(^|\.)(?:vision|visual|audio|encoder|enc)[a-z_]*\.|^[va]\./;

/**
 * Bytes of the cache in F16 for each token of context: of every layer with keys and values, so that layers with other
 * numbers of heads, and layers without attention, count as they are. Absent where it is not known: for latent attention,
 * and for fused projections without a number of heads that holds for all layers.
 */
export function cacheBytesPerToken({ tensors, metadata, dimensions: d }: ModelView): number | undefined {
  const language = tensors.filter(({ name }) => !OUTSIDE.test(name));
  if (language.some(({ name }) => LATENT.test(name))) return undefined;
  const rows = language.filter(({ name }) => KEYS_OR_VALUES.test(name)).reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  if (rows > 0) return F16 * rows;
  const listed = metadata.some(([key, value]) => key.endsWith('.attention.head_count_kv') && / values$/.test(value));
  if (listed || !d.layers || !d.hidden || !d.heads) return undefined;
  return F16 * 2 * d.layers * (d.head_dim ?? d.hidden / d.heads) * (d.kv_heads ?? d.heads);
}
