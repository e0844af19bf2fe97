//! From the text of a pattern to the instructions of the automaton. Errors are the end of a sentence about
//! the pattern.

use super::{Assertion, Class, MatchInstruction};
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

/// Instructions of a part of a pattern.
type Instructions = Vec<MatchInstruction>;
type Result<T> = core::result::Result<T, &'static str>;

/// Groups within groups.
const MAX_DEPTH: u32 = 64;
/// Instructions of a regular expression, whose repetitions multiply them.
const MAX_INSTRUCTIONS: usize = 4096;

const TOO_DEEP: &str = "has more than 64 groups within each other";
const TOO_LARGE: &str = "repeats too much";
const UNSUPPORTED: &str = "uses syntax that is not supported";

/// Compiles a glob, which matches a run of parts.
pub(super) fn glob(text: &str) -> Result<Instructions> {
    let mut parser = PatternParser { rest: text.chars().peekable(), depth: 0 };
    let mut program = alloc::vec![MatchInstruction::Assert(Assertion::PartStart)];
    program.extend(parser.glob()?);
    program.push(MatchInstruction::Assert(Assertion::PartEnd));
    Ok(program)
}

/// Compiles a regular expression, which matches anywhere.
pub(super) fn regex(text: &str) -> Result<Instructions> {
    let mut parser = PatternParser { rest: text.chars().peekable(), depth: 0 };
    let program = parser.alternatives()?;
    if parser.rest.next().is_some() { Err("closes a group that is not open") } else { Ok(program) }
}

struct PatternParser<'a> {
    rest: Peekable<Chars<'a>>,
    depth: u32,
}

/// Any one of the parts.
fn any_of(mut parts: Vec<Instructions>) -> Instructions {
    let last = parts.pop().unwrap_or_default();
    let mut left = parts.iter().map(|part| part.len() + 2).sum::<usize>() + last.len();
    let mut program = Instructions::with_capacity(left);
    for part in parts {
        left -= part.len() + 2;
        program.push(MatchInstruction::Split(distance(part.len() + 2)));
        program.extend(part);
        program.push(MatchInstruction::Jump(distance(left + 1)));
    }
    program.extend(last);
    program
}

/// A part any number of times.
fn star(part: Instructions) -> Instructions {
    let len = part.len();
    let mut program = alloc::vec![MatchInstruction::Split(distance(len + 2))];
    program.extend(part);
    program.push(MatchInstruction::Jump(-distance(len + 1)));
    program
}

/// A part, or nothing.
fn optional(part: Instructions) -> Instructions {
    let mut program = alloc::vec![MatchInstruction::Split(distance(part.len() + 1))];
    program.extend(part);
    program
}

fn distance(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

impl PatternParser<'_> {
    /// Consumes the next character if it is `c`.
    fn take(&mut self, c: char) -> bool {
        self.rest.next_if_eq(&c).is_some()
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        let found = if self.depth > MAX_DEPTH { Err(TOO_DEEP) } else { inner(self) };
        self.depth -= 1;
        found
    }

    /// A glob up to the end, or within braces up to the next comma or brace.
    fn glob(&mut self) -> Result<Instructions> {
        let mut program = Instructions::new();
        let mut starred = false;
        while let Some(c) = self.rest.next_if(|c| self.depth == 0 || !matches!(c, ',' | '}')) {
            let after_star = core::mem::replace(&mut starred, c == '*');
            match c {
                // Many stars in a row are one.
                '*' if after_star => {}
                '*' => {
                    // A star that is reached first takes whatever is in between.
                    program.extend((self.depth == 0).then_some(MatchInstruction::Commit));
                    program.extend(star(alloc::vec![MatchInstruction::Char(Class::any())]));
                }
                '?' => program.push(MatchInstruction::Char(Class::any())),
                '[' => program.push(MatchInstruction::Char(self.class(false)?)),
                '{' => program.extend(self.nested(Self::braces)?),
                '\\' => {
                    let quoted = self.rest.next().ok_or("ends with a backslash")?;
                    program.push(MatchInstruction::Char(Class::of(quoted)));
                }
                c => program.push(MatchInstruction::Char(Class::of(c))),
            }
        }
        Ok(program)
    }

    /// The alternatives of a glob, up to the closing brace.
    fn braces(&mut self) -> Result<Instructions> {
        let mut all = alloc::vec![self.glob()?];
        while self.take(',') {
            all.push(self.glob()?);
        }
        if !self.take('}') {
            return Err("has a brace that is not closed");
        }
        Ok(any_of(all))
    }

    /// A class, up to the closing bracket. A bracket that closes nothing yet stands for itself.
    fn class(&mut self, regex: bool) -> Result<Class> {
        const OPEN: &str = "has a bracket that is not closed";
        let negated = self.take('^') || (!regex && self.take('!'));
        let mut class = Class { negated, ranges: Vec::new() };
        loop {
            let c = self.rest.next().ok_or(OPEN)?;
            if c == ']' && (regex || !class.ranges.is_empty()) {
                return Ok(class);
            }
            let from = match c {
                '\\' if regex => match self.escape()? {
                    Escape::Class(Class { negated: false, ranges }) => {
                        class.ranges.extend(ranges);
                        continue;
                    }
                    Escape::Char(c) => c,
                    _ => return Err(UNSUPPORTED),
                },
                c => c,
            };
            // A hyphen before the closing bracket stands for itself.
            let mut ahead = self.rest.clone();
            let to = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(to)) if to != ']' => {
                    self.rest = ahead;
                    match to {
                        '\\' if regex => match self.escape()? {
                            Escape::Char(c) => c,
                            _ => return Err(UNSUPPORTED),
                        },
                        to => to,
                    }
                }
                _ => from,
            };
            if to < from {
                return Err("has a range that ends before it begins");
            }
            class.ranges.push((from, to));
        }
    }

    /// A regular expression up to the end or the parenthesis that closes its group.
    fn alternatives(&mut self) -> Result<Instructions> {
        let mut all = alloc::vec![self.sequence()?];
        while self.take('|') {
            all.push(self.sequence()?);
        }
        let program = any_of(all);
        if program.len() > MAX_INSTRUCTIONS { Err(TOO_LARGE) } else { Ok(program) }
    }

    fn sequence(&mut self) -> Result<Instructions> {
        let mut program = Instructions::new();
        while let Some(c) = self.rest.next_if(|c| !matches!(c, '|' | ')')) {
            let atom = self.atom(c)?;
            program.extend(self.repeated(atom)?);
            if program.len() > MAX_INSTRUCTIONS {
                return Err(TOO_LARGE);
            }
        }
        Ok(program)
    }

    /// What stands for itself, a class or a group; `c` is its first character.
    fn atom(&mut self, c: char) -> Result<Instructions> {
        Ok(alloc::vec![match c {
            '(' => return self.nested(Self::group),
            '[' => MatchInstruction::Char(self.class(true)?),
            '.' => MatchInstruction::Char(Class::any()),
            '^' => MatchInstruction::Assert(Assertion::Start),
            '$' => MatchInstruction::Assert(Assertion::End),
            '\\' => match self.escape()? {
                Escape::Char(c) => MatchInstruction::Char(Class::of(c)),
                Escape::Class(class) => MatchInstruction::Char(class),
                Escape::Assertion(what) => MatchInstruction::Assert(what),
            },
            '*' | '+' | '?' | '{' => return Err("repeats nothing"),
            c => MatchInstruction::Char(Class::of(c)),
        }])
    }

    fn group(&mut self) -> Result<Instructions> {
        // Groups capture nothing here, so that `(?:` is `(`.
        if self.take('?') && !self.take(':') {
            return Err(UNSUPPORTED);
        }
        let program = self.alternatives()?;
        if self.take(')') { Ok(program) } else { Err("has a group that is not closed") }
    }

    /// `atom` as often as the quantifier behind it demands. Whether it is greedy changes no match.
    fn repeated(&mut self, atom: Instructions) -> Result<Instructions> {
        let program = match self.rest.next_if(|c| matches!(c, '*' | '+' | '?' | '{')) {
            None => return Ok(atom),
            Some('*') => star(atom),
            Some('+') => [atom.clone(), star(atom)].concat(),
            Some('?') => optional(atom),
            Some(_) => self.counted(&atom)?,
        };
        self.take('?');
        Ok(program)
    }

    /// `{n}`, `{n,}` or `{n,m}`, behind the brace.
    fn counted(&mut self, atom: &Instructions) -> Result<Instructions> {
        const MALFORMED: &str = "has a repetition that is not {n}, {n,} or {n,m}";
        let least = self.number().ok_or(MALFORMED)?;
        let most = if self.take(',') { self.number() } else { Some(least) };
        if !self.take('}') {
            return Err(MALFORMED);
        }
        if most.is_some_and(|most| most < least) {
            return Err("has a repetition whose end is below its beginning");
        }
        let times = most.unwrap_or(least).max(least);
        if times.saturating_mul(atom.len() + 1) > MAX_INSTRUCTIONS {
            return Err(TOO_LARGE);
        }
        let mut parts = alloc::vec![atom.clone(); least];
        match most {
            Some(most) => parts.extend(alloc::vec![optional(atom.clone()); most - least]),
            None => parts.push(star(atom.clone())),
        }
        Ok(parts.concat())
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(10)) {
            self.rest.next();
            number = Some(number.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
        }
        number
    }

    /// What a backslash and the characters behind it stand for.
    fn escape(&mut self) -> Result<Escape> {
        let class =
            |negated, ranges: &[(char, char)]| Escape::Class(Class { negated, ranges: ranges.to_vec() });
        let (digit, word) = ([('0', '9')], [('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')]);
        let space = [('\t', '\r'), (' ', ' ')];
        Ok(match self.rest.next().ok_or("ends with a backslash")? {
            'd' => class(false, &digit),
            'D' => class(true, &digit),
            'w' => class(false, &word),
            'W' => class(true, &word),
            's' => class(false, &space),
            'S' => class(true, &space),
            'b' => Escape::Assertion(Assertion::WordBoundary),
            'B' => Escape::Assertion(Assertion::NoWordBoundary),
            c if c.is_ascii_alphanumeric() => return Err(UNSUPPORTED),
            c => Escape::Char(c),
        })
    }
}

/// What an escape stands for.
enum Escape {
    Char(char),
    Class(Class),
    Assertion(Assertion),
}
