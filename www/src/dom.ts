// Builds elements. Styles are set through classes and the CSSOM only: the page's policy forbids style attributes.

export type Child = Node | string | number | null | undefined | false | Child[];

export interface Props {
  class?: string;
  id?: string;
  on?: { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };
  set?: Record<string, unknown>;
  [attribute: string]: unknown;
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  apply(node, props);
  append(node, children);
  return node;
}

export function svg(tag: string, attributes: Record<string, string | number> = {}, ...children: Child[]): SVGElement {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  append(node, children);
  return node;
}

export function replace(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** Sets a custom property; the style sheet turns it into geometry. */
export function vary(node: HTMLElement | SVGElement, name: string, value: string | number): void {
  node.style.setProperty(name, String(value));
}

function apply(node: HTMLElement, props: Props): void {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') listen(node, value as NonNullable<Props['on']>);
    else if (name === 'set') Object.assign(node, value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
}

function listen(node: HTMLElement, handlers: NonNullable<Props['on']>): void {
  for (const [type, handler] of Object.entries(handlers)) node.addEventListener(type, handler as EventListener);
}

function append(node: Element, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child !== null && child !== undefined && child !== false)
      node.append(typeof child === 'number' ? String(child) : child);
  }
}

let counter = 0;

/** An id that no other element of the page has. */
export function uid(prefix: string): string {
  counter += 1;
  return `${prefix}-${counter}`;
}
