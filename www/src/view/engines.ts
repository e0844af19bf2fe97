// The engines panel: which engine works, how its kernels were verified, and how fast they are.
import { apiErrorOf, type Client } from '../client';
import { h, replace, uid, vary, type Child } from '../dom';
import { integer, plural, seconds } from '../format';
import type { EngineChoice, EnginesView, KernelView, KernelSpeed, RunInfo } from '../protocol';
import { errorNote } from './error_note';

const KEY = 'quantoscope-engine';
const CHOICES: readonly (readonly [EngineChoice, string])[] = [
  ['auto', 'Auto'],
  ['processor', 'CPU'],
  ['webgpu', 'WebGPU'],
];

function stored(): EngineChoice {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'processor' || value === 'webgpu' ? value : 'auto';
  } catch {
    // Storage may be switched off.
    return 'auto';
  }
}

/** The button in the footer that opens the engines panel. */
export function engineChip(client: Client): HTMLElement {
  let choice = stored();
  const word = h('span', {});
  const show = () => {
    const label = CHOICES.find(([value]) => value === choice)?.[1] ?? '';
    word.textContent = `Compute: ${label}`;
    void client.call('choose_engine', { engine: choice });
  };
  const choose = (next: EngineChoice) => {
    choice = next;
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // As above.
    }
    show();
  };
  show();
  return h(
    'button',
    {
      type: 'button',
      class: 'quiet chip',
      'aria-haspopup': 'dialog',
      on: { click: () => openPanel(client, choice, choose) },
    },
    h('span', { class: 'chip-mark', 'aria-hidden': 'true' }),
    word,
  );
}

function cpu(engine: string): string {
  return engine === 'simd128' ? 'CPU (WASM SIMD)' : `CPU (${engine})`;
}

/** What did the work, in a sentence or two. */
export function engineNote({ engine, device }: RunInfo): string {
  if (!device) return `${cpu(engine)}, 1 thread.`;
  const { name, blocks, checked, differing, ended } = device;
  if (differing > 0) return `Restarted on the CPU: ${name} produced wrong bytes.`;
  const given = ended ? ` It was disabled: ${ended}.` : '';
  if (blocks === 0) return `${cpu(engine)}, 1 thread; nothing to do for ${name}.${given}`;
  const made = `GPU (${name}): ${plural(blocks, 'block')}, ${integer(checked)} spot-checked on the CPU, all identical.`;
  return made + given;
}

function openPanel(client: Client, chosen: EngineChoice, choose: (next: EngineChoice) => void): void {
  const title = uid('engines');
  const machines = h('div', { class: 'machines' });
  const said = h('p', { class: 'soft', role: 'status' });
  const work = h('div', { class: 'engine-work' });
  let engines: EnginesView | undefined;
  let choice = chosen;
  const say = () => (said.textContent = sentence(choice, engines));
  const pick = (next: EngineChoice) => {
    choice = next;
    choose(next);
    say();
  };
  const close = () => dialog.close();
  const dialog = h(
    'dialog',
    { class: 'engines-panel', 'aria-labelledby': title, on: { close: () => dialog.remove() } },
    h(
      'header',
      { class: 'engines-head' },
      h('h2', { id: title }, 'Compute settings'),
      h('button', { type: 'button', class: 'quiet', on: { click: close } }, 'Close'),
    ),
    h('p', { class: 'engines-say' }, 'CPU and GPU give the same bytes and the same figures. They differ in speed only.'),
    segments(choice, pick),
    said,
    machines,
    work,
  );
  // A click beside it lands on the dialog itself.
  dialog.addEventListener('click', (event) => event.target === dialog && close());
  document.body.append(dialog);
  replace(machines, processorCard(undefined), h('div', { class: 'machine' }, cardHead('WebGPU', 'looking\u2026', [])));
  say();
  dialog.showModal();
  client
    .call('engines', {})
    .then((found) => {
      engines = found;
      replace(machines, processorCard(found), deviceCard(found));
      say();
      if (found.device && !found.device.ended) replace(work, ...kernelBlock(client, found.device, dialog));
    })
    .catch((reason: unknown) => replace(work, errorNote(apiErrorOf(reason))));
}

function segments(choice: EngineChoice, pick: (next: EngineChoice) => void): HTMLElement {
  const group = uid('engine');
  const options = CHOICES.map(([value, label]) => {
    const input = h('input', { type: 'radio', name: group, value, checked: value === choice });
    input.addEventListener('change', () => pick(value));
    return h('label', { class: 'segment' }, input, h('span', {}, label));
  });
  return h('fieldset', { class: 'segments' }, h('legend', { class: 'unseen' }, 'Compute'), options);
}

/** What the choice means on this machine. */
function sentence(choice: EngineChoice, engines: EnginesView | undefined): string {
  if (choice === 'processor') return 'The CPU does everything.';
  if (!engines) return 'Looking for a graphics adapter\u2026';
  const { device } = engines;
  if (!device) return engines.absent ?? '';
  if (device.ended) return `${device.ended}. Until this page is loaded again, the CPU does everything.`;
  if (choice === 'webgpu') return 'WebGPU quantizes where its kernels are bit-exact. The CPU does the rest, and all measuring.';
  if (device.software) return 'This is a software GPU: slower than the CPU, never used by Auto.';
  return 'Auto uses WebGPU for work of 256 MiB and more, where the table says that it is faster.';
}

function cardHead(kind: string, name: string, tags: Child[]): Child[] {
  return [h('h3', {}, kind), h('p', { class: 'machine-name' }, name, ' ', tags)];
}

function processorCard(engines: EnginesView | undefined): HTMLElement {
  const vectors = engines?.processor === 'simd128' ? 'WASM SIMD, 1 thread.' : '1 thread.';
  return h(
    'div',
    { class: 'machine' },
    cardHead('CPU', engines?.processor ?? '\u2026', []),
    h('p', { class: 'small soft' }, `${vectors} It does all measuring, and spot-checks the GPU.`),
  );
}

const ABSENT = 'A GPU changes only how long the work takes.';

function deviceCard({ device }: EnginesView): HTMLElement {
  if (!device)
    return h('div', { class: 'machine' }, cardHead('WebGPU', 'not here', []), h('p', { class: 'small soft' }, ABSENT));
  return h(
    'div',
    { class: 'machine' },
    cardHead('WebGPU', device.name, [device.software && h('span', { class: 'tag plain' }, 'software')]),
    h(
      'p',
      { class: 'small soft' },
      `${plural(device.kernels.length, 'kernel')}. Each is verified before it is used.`,
    ),
  );
}

type Device = NonNullable<EnginesView['device']>;

/** Kernels that do the same from other stores are one line. */
interface Line {
  type: string;
  what: string;
  kernels: { kernel: KernelView; index: number }[];
}

function lines(device: Device): Line[] {
  const found: Line[] = [];
  for (const [index, kernel] of device.kernels.entries()) {
    const [type, what] = labels(kernel);
    const known = found.find((l) => l.type === type && l.what === what);
    if (known) known.kernels.push({ kernel, index });
    else found.push({ type, what, kernels: [{ kernel, index }] });
  }
  return found;
}

function labels({ work, name, from, to, weighted }: KernelView): [string, string] {
  if (work === 'turn') return ['rotate', name.includes('guarded') ? 'usual values' : 'all values'];
  if (work === 'dequantize') return [from, 'decode'];
  return [to, weighted ? 'quantize, weighted' : 'quantize'];
}

/** The kernels line by line, probed and timed; on a software device only on request. */
function kernelBlock(client: Client, device: Device, dialog: HTMLDialogElement): HTMLElement[] {
  const all = lines(device);
  const rows = all.map((line) => h('tr', {}, ...cells(line)));
  const start = h('button', { type: 'button', on: { click: () => void measure() } }, 'Self-test and measure');
  const note = h('p', { class: 'small soft', role: 'status' }, NOTE);
  const measure = async () => {
    start.disabled = true;
    const begun = performance.now();
    try {
      for (const [i, line] of all.entries()) {
        if (!dialog.open) return;
        note.textContent = `${line.type}, ${line.what}: ${i + 1} of ${all.length}\u2026`;
        await ask(client, line, (speed) => replace(rows[i] as HTMLElement, ...cells(line, speed)));
      }
      note.textContent = `${NOTE} Measured in ${seconds((performance.now() - begun) / 1000)}.`;
    } catch (reason) {
      replace(note, errorNote(apiErrorOf(reason)));
    }
    start.textContent = 'Measure again';
    start.disabled = false;
  };
  if (!device.software) void measure();
  const table = h('div', { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': 'Kernels, table' }, grid(rows));
  return [
    h('div', { class: 'block-head' }, h('h3', {}, 'Kernels'), start),
    note,
    table,
    h('p', { class: 'small soft' }, TRUST),
  ];
}

/** Probes the kernels of a line, and times the one that reads what models are stored as. */
async function ask(client: Client, line: Line, show: (speed?: KernelSpeed) => void): Promise<void> {
  for (const { kernel, index } of line.kernels) kernel.exact = await client.call('probe', { kernel: index });
  show();
  const timed = line.kernels.find(({ kernel }) => kernel.from === 'BF16') ?? line.kernels[0];
  if (timed?.kernel.exact) show(await client.call('benchmark', { kernel: timed.index }));
}

const NOTE = 'Million values per second, from memory and back; quantizing from BF16.';
const TRUST =
  'Before use, a kernel must reproduce known answers: ties, zeros of both signs, subnormal numbers, refused values. ' +
  'A kernel with one wrong byte is not used. During use, the CPU recomputes one block in 256; at the first ' +
  'difference the run is restarted without the GPU.';

function grid(rows: readonly HTMLElement[]): HTMLElement {
  const heads = ['Type', 'Self-test', 'CPU', 'WebGPU', 'Auto uses'];
  return h(
    'table',
    { class: 'figures-table kernels' },
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        heads.map((text) => h('th', { scope: 'col' }, text)),
      ),
    ),
    h('tbody', {}, [...rows]),
  );
}

function cells({ type, what, kernels }: Line, speed?: KernelSpeed): HTMLElement[] {
  const most = Math.max(speed?.processor ?? 0, speed?.device ?? 0);
  return [
    h('th', { scope: 'row' }, h('span', { class: 'tag made' }, type), h('span', { class: 'what' }, what)),
    h('td', {}, probed(kernels.map(({ kernel }) => kernel.exact))),
    h('td', {}, rate(speed?.processor, most, 'bar')),
    h('td', {}, rate(speed?.device, most, 'bar rose')),
    h('td', { class: 'auto' }, speed ? (speed.auto ? 'WebGPU' : 'CPU') : '\u2013'),
  ];
}

function probed(found: readonly (boolean | null)[]): Child {
  const exact = found.filter(Boolean).length;
  if (found.includes(null)) return '\u2013';
  if (exact === found.length) return h('span', { class: 'verdict green' }, 'bit-exact');
  if (exact === 0) return h('span', { class: 'verdict red' }, 'failed');
  return h('span', { class: 'verdict yellow' }, `${exact} of ${found.length}`);
}

/** The bar is there before its figure: rows keep their height. */
function rate(values: number | null | undefined, most: number, kind: string): Child {
  const bar = h('span', { class: kind, 'aria-hidden': 'true' });
  vary(bar, '--part', most > 0 && values ? values / most : 0);
  if (values === null || values === undefined) return ['\u2013', bar];
  const millions = values / 1e6;
  return [millions.toFixed(millions >= 100 ? 0 : 1), bar];
}
