// Regular expressions in linear time: a text of a link or of a person cannot stop the page. All states that an expression can
// be in advance together, character by character, so there is no backtracking, and no look-around or back-reference.

/** A parsed expression. `one` is matched by one character. */
type Tree =
  | { kind: 'one'; fits: (character: string) => boolean }
  | { kind: 'start' | 'end' }
  | { kind: 'sequence'; parts: Tree[] }
  | { kind: 'choice'; parts: Tree[] }
  | { kind: 'repeat'; body: Tree; least: number; most: number };

type Step = { kind: 'one'; fits: (character: string) => boolean } | { kind: 'start' | 'end' | 'match' } | { kind: 'fork'; to: number[] };

/** Steps of a compiled expression, at most. */
const MOST_STEPS = 2000;

/** Characters of an expression, at most. */
const MOST_CHARACTERS = 200;

const REPEAT = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})\??/;
const ESCAPE = /^\\(?:u[0-9a-f]{4}|x[0-9a-f]{2}|c[a-z]|[^1-9bBkpPuxc])/i;
const CLASS = /^\[(?:[^\]\\]|\\.)*\]/s;

/** A test of an expression, or the reason why it is refused. Upper and lower case are the same. */
export function pattern(source: string): ((text: string) => boolean) | { refused: string } {
  if (source.length > MOST_CHARACTERS) return { refused: `An expression has at most ${MOST_CHARACTERS} characters.` };
  try {
    // The syntax is checked by the browser; nothing is matched.
    new RegExp(source, 'i');
  } catch {
    return { refused: 'This is not a regular expression.' };
  }
  const tree = new Parser(source).whole();
  if (!tree) return { refused: 'Look-around, back-references and \\b are not supported.' };
  const steps: Step[] = [];
  if (!emit(tree, steps)) return { refused: 'This expression repeats too much.' };
  steps.push({ kind: 'match' });
  return (text) => matches(steps, text);
}

class Parser {
  private at = 0;

  constructor(private readonly source: string) {}

  /** The whole expression; absent where it has a part that is not supported. */
  whole(): Tree | undefined {
    const tree = this.choice();
    return this.at === this.source.length ? tree : undefined;
  }

  private choice(): Tree | undefined {
    const parts: Tree[] = [];
    do {
      const part = this.sequence();
      if (!part) return undefined;
      parts.push(part);
    } while (this.take('|'));
    return { kind: 'choice', parts };
  }

  private sequence(): Tree | undefined {
    const parts: Tree[] = [];
    while (this.at < this.source.length && !/^[|)]/.test(this.rest())) {
      const atom = this.atom();
      if (!atom) return undefined;
      parts.push(this.repeated(atom));
    }
    return { kind: 'sequence', parts };
  }

  private atom(): Tree | undefined {
    if (this.take('^')) return { kind: 'start' };
    if (this.take('$')) return { kind: 'end' };
    if (this.take('(')) {
      if (/^\?(?!:)/.test(this.rest())) return undefined;
      this.take('?:');
      const body = this.choice();
      return this.take(')') ? body : undefined;
    }
    const rest = this.rest();
    const special = rest.startsWith('\\') ? ESCAPE.exec(rest)?.[0] : rest.startsWith('[') ? CLASS.exec(rest)?.[0] : rest[0];
    if (special === undefined) return undefined;
    this.at += special.length;
    return { kind: 'one', fits: oneCharacter(special) };
  }

  private repeated(body: Tree): Tree {
    const found = REPEAT.exec(this.rest());
    if (!found) return body;
    this.at += found[0].length;
    const [all, least, comma, most] = found;
    if (least === undefined) return { kind: 'repeat', body, least: all[0] === '+' ? 1 : 0, most: all[0] === '?' ? 1 : Infinity };
    const end = comma ? (most ? Number(most) : Infinity) : Number(least);
    return { kind: 'repeat', body, least: Number(least), most: end };
  }

  private rest(): string {
    return this.source.slice(this.at);
  }

  private take(text: string): boolean {
    if (!this.source.startsWith(text, this.at)) return false;
    this.at += text.length;
    return true;
  }
}

/** What one character must be, decided by the browser once for each character. */
function oneCharacter(source: string): (character: string) => boolean {
  const test = new RegExp(`^${source === '{' || source === '}' || source === ']' ? `\\${source}` : source}$`, 'i');
  const known = new Map<string, boolean>();
  return (character) => {
    const before = known.get(character);
    if (before !== undefined) return before;
    const fits = test.test(character);
    known.set(character, fits);
    return fits;
  };
}

/** Appends the steps of a tree. False where they are too many. */
function emit(tree: Tree, steps: Step[]): boolean {
  if (steps.length > MOST_STEPS) return false;
  if (tree.kind === 'sequence') return tree.parts.every((part) => emit(part, steps));
  if (tree.kind === 'choice') return emitChoice(tree.parts, steps);
  if (tree.kind === 'repeat') return emitRepeat(tree, steps);
  steps.push(tree);
  return true;
}

function emitRepeat(tree: Tree & { kind: 'repeat' }, steps: Step[]): boolean {
  const { body, least, most } = tree;
  if (Math.max(least, most === Infinity ? 0 : most) > MOST_STEPS) return false;
  for (let i = 0; i < least; i += 1) {
    const before = steps.length;
    if (!emit(body, steps)) return false;
    // Nothing, any number of times.
    if (steps.length === before) break;
  }
  if (most === Infinity) {
    const fork: Step = { kind: 'fork', to: [] };
    const begin = steps.push(fork) - 1;
    if (!emit(body, steps)) return false;
    steps.push({ kind: 'fork', to: [begin] });
    fork.to.push(begin + 1, steps.length);
    return true;
  }
  const forks: { kind: 'fork'; to: number[] }[] = [];
  for (let i = least; i < most; i += 1) {
    const fork = { kind: 'fork' as const, to: [steps.length + 1] };
    forks.push(fork);
    steps.push(fork);
    if (!emit(body, steps)) return false;
  }
  for (const fork of forks) fork.to.push(steps.length);
  return true;
}

function emitChoice(parts: readonly Tree[], steps: Step[]): boolean {
  const [first] = parts;
  if (parts.length === 1 && first) return emit(first, steps);
  const fork: Step = { kind: 'fork', to: [] };
  steps.push(fork);
  const ends: { kind: 'fork'; to: number[] }[] = [];
  for (const part of parts) {
    fork.to.push(steps.length);
    if (!emit(part, steps)) return false;
    const end = { kind: 'fork' as const, to: [] as number[] };
    ends.push(end);
    steps.push(end);
  }
  for (const end of ends) end.to.push(steps.length);
  return true;
}

/** True if the expression matches somewhere in `text`. */
function matches(steps: readonly Step[], text: string): boolean {
  const seen = new Int32Array(steps.length).fill(-1);
  let now: number[] = [];
  const enter = (first: number, place: number): boolean => {
    const waiting = [first];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      const step = steps[at];
      if (!step || seen[at] === place) continue;
      seen[at] = place;
      if (step.kind === 'match') return true;
      if (step.kind === 'one') now.push(at);
      else if (step.kind === 'fork') waiting.push(...step.to);
      else if (step.kind === 'start' ? place === 0 : place === text.length) waiting.push(at + 1);
    }
    return false;
  };
  for (let place = 0; ; place += 1) {
    // A match can begin at every place.
    if (enter(0, place)) return true;
    if (place === text.length) return false;
    const character = text[place] ?? '';
    const before = now;
    now = [];
    for (const at of before) {
      const step = steps[at];
      if (step?.kind === 'one' && step.fits(character) && enter(at + 1, place + 1)) return true;
    }
  }
}
