//! Patterns of tensor names: globs over runs of name parts, and regular expressions between slashes.
//!
//! A glob matches a whole name or any run of its parts between dots: `attn_v` matches `blk.3.attn_v.weight`,
//! and `output.weight` does not match `blk.3.attn_output.weight`.
//!
//! | glob | matches |
//! |---|---|
//! | `*` | any characters, dots included |
//! | `?` | one character |
//! | `[a-z0]`, `[!a-z0]` | one character of the class, or one outside of it |
//! | `{q,k}` | either alternative; alternatives are globs |
//! | `\*` | the character after the backslash |
//!
//! A pattern between slashes is a regular expression that may match anywhere in the name, with the syntax of
//! `llama-quantize --tensor-type` without backreferences and lookaround: `/\.[0-3]\.attn_v/`. So is a pattern
//! that no glob would be: one with any of `( ) | ^ $ +`, or with a backslash before a letter, a digit or a dot.
//!
//! Both ignore ASCII case. A pattern is compiled to the instructions of a Thompson automaton, which is run in
//! `O(instructions * characters)` time whatever the pattern (Cox, "Regular Expression Matching Can Be Simple
//! And Fast"). Knows no tensors.

mod parse;

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A compiled pattern of tensor names.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    program: Vec<MatchInstruction>,
}

/// One instruction of the automaton. Jumps are relative, so that compiled parts can be moved and repeated.
#[derive(Clone, Debug, PartialEq)]
enum MatchInstruction {
    /// Consumes one character of a class.
    Char(Class),
    /// Goes on at the next instruction and at this distance.
    Split(isize),
    /// Goes on at this distance.
    Jump(isize),
    /// Goes on at the next instruction if this holds at the current place.
    Assert(Assertion),
    /// Goes on at the next instruction. Whatever matches from a place before this one, matches from here.
    Commit,
}

/// A set of characters.
#[derive(Clone, Debug, Default, PartialEq)]
struct Class {
    /// Whether the ranges are those that do not match.
    negated: bool,
    /// Inclusive ranges.
    ranges: Vec<(char, char)>,
}

/// A condition on the characters before and after a place in the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assertion {
    /// A part begins here: at the start of the name, or after a dot.
    PartStart,
    /// A part ends here: at the end of the name, or before a dot.
    PartEnd,
    /// The start of the name.
    Start,
    /// The end of the name.
    End,
    /// One of the two characters is a letter, digit or underscore, the other is not.
    WordBoundary,
    /// Both are, or neither is.
    NoWordBoundary,
}

impl Class {
    /// The class of every character.
    fn any() -> Class {
        Class { negated: true, ranges: Vec::new() }
    }

    /// The class of `c` alone.
    fn of(c: char) -> Class {
        Class { negated: false, ranges: alloc::vec![(c, c)] }
    }

    fn accepts(&self, c: char) -> bool {
        let within = |c: char| self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
        (within(c.to_ascii_lowercase()) || within(c.to_ascii_uppercase())) != self.negated
    }
}

impl Assertion {
    fn holds(self, before: Option<char>, after: Option<char>) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Assertion::PartStart => before.is_none_or(|c| c == '.'),
            Assertion::PartEnd => after.is_none_or(|c| c == '.'),
            Assertion::Start => before.is_none(),
            Assertion::End => after.is_none(),
            Assertion::WordBoundary => is_word(before) != is_word(after),
            Assertion::NoWordBoundary => is_word(before) == is_word(after),
        }
    }
}

/// Whether a pattern has syntax of regular expressions that globs do not have.
fn is_regex(text: &str) -> bool {
    let escapes = |pair: &[u8]| matches!(pair, [b'\\', c] if c.is_ascii_alphanumeric() || *c == b'.');
    text.contains(['(', ')', '|', '^', '$', '+']) || text.as_bytes().windows(2).any(escapes)
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// `usage` if a class, group or alternative is not closed, if a regular expression uses syntax that is
    /// not supported, or if it repeats so often that it compiles to more than 4096 instructions.
    pub fn new(text: &str) -> Result<Pattern> {
        let between_slashes = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let regex = between_slashes.or_else(|| is_regex(text).then_some(text));
        let program = match regex {
            Some(regex) => parse::regex(regex),
            None => parse::glob(text),
        };
        match program {
            Ok(program) => Ok(Pattern { text: text.to_string(), program }),
            Err(why) => Err(Error::new(Code::Usage, format!("the pattern {text:?} {why}"))),
        }
    }

    /// The pattern as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches `name`.
    pub fn finds(&self, name: &str) -> bool {
        self.text.eq_ignore_ascii_case(name) || self.matches(name)
    }

    fn matches(&self, name: &str) -> bool {
        // The step in which an instruction was last reached: each is followed once per step.
        let mut reached = alloc::vec![0_usize; self.program.len()];
        let (mut todo, mut waiting) = (Vec::new(), Vec::new());
        // The last `Commit` that was reached: instructions before it need not be followed.
        let mut committed = 0;
        let (mut before, mut rest) = (None, name.chars());
        for step in 1.. {
            let mut ahead = rest.clone();
            let after = ahead.next();
            // A match may begin at every place.
            todo.push(0_usize);
            while let Some(at) = todo.pop() {
                // Beyond the last instruction everything has matched.
                let (Some(instruction), Some(last)) = (self.program.get(at), reached.get_mut(at)) else {
                    return true;
                };
                if at < committed || core::mem::replace(last, step) == step {
                    continue;
                }
                match instruction {
                    MatchInstruction::Char(_) => waiting.push(at),
                    MatchInstruction::Split(by) => todo.extend([at + 1, at.saturating_add_signed(*by)]),
                    MatchInstruction::Jump(by) => todo.push(at.saturating_add_signed(*by)),
                    MatchInstruction::Assert(what) if what.holds(before, after) => todo.push(at + 1),
                    MatchInstruction::Assert(_) => {}
                    MatchInstruction::Commit => {
                        committed = at;
                        todo.push(at + 1);
                    }
                }
            }
            let Some(c) = after else { return false };
            for at in waiting.drain(..).filter(|at| *at >= committed) {
                match self.program.get(at) {
                    Some(MatchInstruction::Char(class)) if class.accepts(c) => todo.push(at + 1),
                    _ => {}
                }
            }
            (before, rest) = (after, ahead);
        }
        false
    }
}

/// Whether `pattern` matches `name`. A pattern that does not compile matches only itself.
pub fn finds(pattern: &str, name: &str) -> bool {
    Pattern::new(pattern).map_or_else(|_| pattern.eq_ignore_ascii_case(name), |p| p.finds(name))
}
