// The treemap of a model: layers, and modules in them, as large as their bytes.
import { hierarchy, treemap, treemapSquarify, type HierarchyRectangularNode } from 'd3-hierarchy';
import { html, nothing, svg, type TemplateResult } from 'lit-html';
import { bytes, integer, marked, percent } from '../format';
import { layerName, nameParts, stacksOf } from '../names';
import type { ModelView, TensorRow } from '../protocol';
import { isEstimate, type MeasuredTable } from '../store';
import { errorColour, inkOn, type ErrorScale } from './colour_scale';

/** A module of a layer: one tensor, or those of its experts. */
export interface TreeLeaf {
  name: string;
  bytes: number;
  tensors: TensorRow[];
}

interface Node {
  name: string;
  children?: Node[];
  leaf?: TreeLeaf;
}

export interface TreeOptions {
  width: number;
  height: number;
  /** Names of the stored types, those with most bytes first. */
  types: readonly string[];
  /** With a scale, colours are those of errors in `type`. */
  errors: { scale: ErrorScale; table: MeasuredTable; type: string } | undefined;
  choose: (leaf: TreeLeaf) => void;
}

/** Colours for stored types, as classes of the style sheet. */
export const TONES = 6;

/** Modules beyond which layers are not divided: such cells would be smaller than a pointer. */
const MOST_LEAVES = 600;

function tree(model: ModelView): Node {
  const groups = new Map<string, Map<string, TreeLeaf>>();
  const parts = model.tensors.map((tensor) => nameParts(tensor.name));
  const several = stacksOf(parts).length > 1;
  for (const [i, tensor] of model.tensors.entries()) {
    const { layer, stack = '', module = '' } = parts[i] ?? {};
    const key = layer === undefined ? module : `layer ${layerName(stack, layer, several)}`;
    const group = groups.get(key) ?? new Map<string, TreeLeaf>();
    groups.set(key, group);
    const leaf = group.get(module) ?? { name: module, bytes: 0, tensors: [] };
    leaf.bytes += tensor.bytes;
    leaf.tensors.push(tensor);
    group.set(module, leaf);
  }
  const children = [...groups].map(([name, leaves]): Node => ({ name, children: [...leaves.values()].map((leaf) => ({ name: leaf.name, leaf })) }));
  const leaves = [...groups.values()].reduce((sum, group) => sum + group.size, 0);
  if (leaves <= MOST_LEAVES) return { name: model.name, children };
  const whole = (name: string, parts: Iterable<TreeLeaf>): Node => {
    const tensors = [...parts].flatMap((part) => part.tensors);
    return { name, leaf: { name, bytes: tensors.reduce((sum, t) => sum + t.bytes, 0), tensors } };
  };
  return { name: model.name, children: [...groups].map(([name, parts]) => whole(name, parts.values())) };
}

export function treePicture(model: ModelView, options: TreeOptions): TemplateResult {
  const { width, height } = options;
  const root = hierarchy(tree(model)).sum((node) => node.leaf?.bytes ?? 0);
  root.sort((a, b) => (b.value ?? 0) - (a.value ?? 0));
  const placed = treemap<Node>().size([width, height]).tile(treemapSquarify).paddingOuter(0.5).paddingInner(1).round(true)(root);
  const groups = (placed.children ?? []).filter((node) => (node.children?.length ?? 0) > 1);
  return svg`<svg class="treemap" role="img" aria-label=${`${model.name}: layers and modules by bytes`} viewBox="0 0 ${width} ${height}" width=${width} height=${height}>
    ${placed.leaves().map((node) => cell(model, node, options))}
    ${groups.map((node) =>
      node.x1 - node.x0 < 46 || node.y1 - node.y0 < 30
        ? nothing
        : svg`<text class="tree-group" x=${node.x0 + 4} y=${node.y0 + 13} fill=${cornerInk(node, options) ?? nothing}>${node.data.name}</text>`,
    )}
  </svg>`;
}

/** The figures of the picture as a table, largest first. */
export function treeTable(model: ModelView, table: MeasuredTable, type: string, choose: (leaf: TreeLeaf) => void): TemplateResult {
  const parts = hierarchy(tree(model)).leaves().flatMap(({ data, parent }) => {
    const { leaf } = data;
    if (!leaf) return [];
    const name = parent && parent.depth > 0 && parent.data.name !== leaf.name ? `${parent.data.name}, ${leaf.name}` : leaf.name;
    return [{ name, leaf }];
  });
  parts.sort((a, b) => b.leaf.bytes - a.leaf.bytes);
  const shown = parts.slice(0, MOST_LEAVES);
  const error = (leaf: TreeLeaf) => marked(meanOf(leaf, table, type), leaf.tensors.some((t) => isEstimate(table, t.index, type)));
  const types = (leaf: TreeLeaf) => [...new Set(leaf.tensors.map((t) => t.dtype))].join(', ');
  return html`<table class="figures-table">
      <thead><tr><th scope="col">Part</th><th scope="col">Size</th><th scope="col">Share</th><th scope="col">Type</th><th scope="col">Error, ${type.toUpperCase()}</th></tr></thead>
      <tbody>
        ${shown.map(
          ({ name, leaf }) => html`<tr>
            <th scope="row"><button type="button" class="link mono" @click=${() => choose(leaf)}>${name}</button></th>
            <td>${bytes(leaf.bytes)}</td><td>${percent(leaf.bytes, model.bytes)}</td><td>${types(leaf)}</td><td>${error(leaf)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    ${parts.length > shown.length ? html`<p class="small soft">The largest ${integer(shown.length)} of ${integer(parts.length)}.</p>` : nothing}`;
}

/** What is readable on the top left cell of a group; absent without colours of errors. */
function cornerInk(node: HierarchyRectangularNode<Node>, { errors }: TreeOptions): string | undefined {
  const corner = node.leaves().find((leaf) => leaf.x0 - node.x0 < 3 && leaf.y0 - node.y0 < 3)?.data.leaf;
  const error = errors && corner && meanOf(corner, errors.table, errors.type);
  return errors && error !== undefined ? inkOn(error, errors.scale) : undefined;
}

function cell(model: ModelView, node: HierarchyRectangularNode<Node>, options: TreeOptions): TemplateResult | typeof nothing {
  const { leaf } = node.data;
  const [w, hgt] = [node.x1 - node.x0, node.y1 - node.y0];
  if (!leaf || w <= 0 || hgt <= 0) return nothing;
  const { errors, types } = options;
  const error = errors && meanOf(leaf, errors.table, errors.type);
  // Without a name of its group above it.
  const top = node.depth < 2 || (node.parent?.children?.length ?? 0) <= 1;
  const where = node.depth < 2 || node.parent?.data.name === leaf.name ? leaf.name : `${node.parent?.data.name}, ${leaf.name}`;
  const estimated = errors !== undefined && leaf.tensors.some((t) => isEstimate(errors.table, t.index, errors.type));
  const figure = error === undefined ? '' : `, error ${marked(error, estimated)}`;
  const tone = Math.min(TONES - 1, Math.max(0, types.indexOf(leaf.tensors[0]?.dtype ?? '')));
  const fill = errors && error !== undefined ? errorColour(error, errors.scale) : undefined;
  const ink = errors && error !== undefined ? inkOn(error, errors.scale) : undefined;
  const fits = w > leaf.name.length * 6.4 + 8 && hgt > (top ? 18 : 32);
  return svg`<g class="tree-cell" @click=${() => options.choose(leaf)}>
    <title>${where}: ${bytes(leaf.bytes)}, ${percent(leaf.bytes, model.bytes)}, ${leaf.tensors[0]?.dtype}${figure}</title>
    <rect class=${fill ? '' : errors ? 'unmeasured' : `tone-${tone}`} x=${node.x0} y=${node.y0} width=${w} height=${hgt} fill=${fill ?? nothing}></rect>
    ${fits ? svg`<text class="tree-name" x=${node.x0 + 4} y=${node.y0 + (top ? 13 : 27)} fill=${ink ?? nothing}>${leaf.name}</text>` : nothing}
  </g>`;
}

function meanOf(leaf: TreeLeaf, table: MeasuredTable, type: string): number | undefined {
  const known = leaf.tensors.flatMap((t) => table.tensors.get(t.index)?.errors.get(type)?.relative_error ?? []);
  return known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : undefined;
}
