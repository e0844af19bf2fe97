//! The parts of a model id: `org/Name-2-7B-Instruct-v0.1`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a model id says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelId {
    /// The name without the organisation, as it stands.
    pub name: String,
    /// The organisation.
    pub organization: Option<String>,
    /// The family.
    pub basename: Option<String>,
    /// What it was tuned for.
    pub finetune: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// The size.
    pub size_label: Option<String>,
}

/// What a part of a name is.
#[derive(Clone, Copy, Default)]
struct Kinds {
    version: bool,
    quantized: bool,
    size: bool,
    finetune: bool,
    basename: bool,
}

impl Kinds {
    fn none(self) -> bool {
        self.others() == 0 && !self.basename
    }

    fn others(self) -> u8 {
        u8::from(self.version) + u8::from(self.quantized) + u8::from(self.size) + u8::from(self.finetune)
    }
}

impl ModelId {
    /// Splits an id. A size label far from `parameters` is part of the finetune; 0 parameters are not compared.
    pub fn parse(id: &str, parameters: u64) -> ModelId {
        if id.contains(' ') {
            return ModelId { name: id.to_string(), ..ModelId::default() };
        }
        let (organization, name) = match id.split_once('/') {
            Some((organization, name)) => (Some(organization).filter(|o| !o.starts_with('.')), name),
            None => (None, id),
        };
        let mut parts: Vec<(String, Kinds)> = name
            .split('-')
            .filter(|part| !part.is_empty())
            .enumerate()
            .map(|(i, part)| annotated(part, i == 0, parameters))
            .collect();
        number_sizes_win(&mut parts);
        find_basename(&mut parts);
        let mut sizes: Vec<&str> = Vec::new();
        for (part, kinds) in &parts {
            if kinds.size && !sizes.contains(&part.as_str()) {
                sizes.push(part);
            }
        }
        let joined = |chosen: fn(&Kinds) -> bool| {
            let of: Vec<&str> = parts.iter().filter(|(_, k)| chosen(k)).map(|(p, _)| p.as_str()).collect();
            Some(of.join("-")).filter(|text| !text.is_empty())
        };
        let size_label = Some(sizes.join("-")).filter(|text| !text.is_empty());
        let finetune = joined(|k| k.finetune);
        let version = joined(|k| k.version && !k.basename);
        let unclear = size_label.is_none() && finetune.is_none() && version.is_none();
        ModelId {
            name: name.to_string(),
            organization: organization.map(ToString::to_string),
            basename: joined(|k| k.basename).filter(|_| !unclear),
            finetune,
            version,
            size_label,
        }
    }
}

/// A part in its usual case, and what it is by itself.
fn annotated(part: &str, first: bool, parameters: u64) -> (String, Kinds) {
    let lower = part.to_ascii_lowercase();
    let none = Kinds::default();
    if is_version(&lower) {
        return (part.to_string(), Kinds { version: true, ..none });
    }
    if is_quantized(&lower) {
        return (part.to_uppercase(), Kinds { quantized: true, ..none });
    }
    if !first && is_size(&lower) {
        return sized(part, parameters);
    }
    let finetune = !first && ["chat", "instruct", "vision", "lora"].contains(&lower.as_str());
    (part.to_string(), Kinds { finetune, ..none })
}

/// The rest of a text behind one or more digits.
fn digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// `(v|iter)?` and numbers with dots.
fn is_version(lower: &str) -> bool {
    let numbers = lower.strip_prefix("iter").or_else(|| lower.strip_prefix('v')).unwrap_or(lower);
    !numbers.is_empty() && numbers.split('.').all(|n| digits(n) == Some(""))
}

/// `q4_k_m`, `iq2_xs`, `fp16`, `bf16`, `f32`.
fn is_quantized(lower: &str) -> bool {
    let float = |text: &str| {
        let text = text.strip_prefix('f')?;
        Some(matches!(text.strip_prefix('p').unwrap_or(text), "16" | "32"))
    };
    if float(lower.strip_prefix('b').unwrap_or(lower)) == Some(true) {
        return true;
    }
    let Some(rest) = lower.strip_prefix('i').unwrap_or(lower).strip_prefix('q') else { return false };
    let mut chars = rest.chars();
    if !chars.next().is_some_and(|c| c.is_ascii_digit()) {
        return false;
    }
    let tail: Vec<char> = chars.collect();
    tail.chunks(2).all(|pair| matches!(pair, ['_', c] if c.is_alphanumeric() || *c == '_'))
}

/// `7b`, `8x7b`, `a3b`, `1_6b`, `7b1`, or a word of size.
fn is_size(lower: &str) -> bool {
    if ["small", "mini", "medium", "large", "xl", "xxl"].contains(&lower) {
        return true;
    }
    let number = |text: &str| -> Option<bool> {
        let mut rest = digits(text)?;
        if let Some(fraction) = rest.strip_prefix(['.', '_']) {
            rest = digits(fraction)?;
        }
        let rest = rest.strip_prefix(['k', 'm', 'b', 't'])?;
        Some(rest.is_empty() || (rest.len() == 1 && digits(rest) == Some("")))
    };
    let times = digits(lower).and_then(|rest| rest.strip_prefix('x'));
    [Some(lower), lower.strip_prefix('a'), times].into_iter().flatten().any(|t| number(t) == Some(true))
}

/// A size in the usual form, or a finetune where it is far from the size of the model.
fn sized(part: &str, parameters: u64) -> (String, Kinds) {
    let mut part: Vec<char> = part.replace('_', ".").chars().collect();
    if let [.., unit, last] = part.as_mut_slice()
        && last.is_ascii_digit()
    {
        // 7b1 is 7.1b.
        let (letter, digit) = (*unit, *last);
        *unit = '.';
        *last = digit;
        part.push(letter);
    }
    if let [.., before, unit] = part.as_mut_slice()
        && before.is_ascii_digit()
    {
        *unit = unit.to_ascii_uppercase();
    }
    let number: String = part.iter().take(part.len().saturating_sub(1)).collect();
    let unit = part.last().and_then(|unit| " KMBT".find(*unit));
    if let (true, Ok(number), Some(power)) = (parameters != 0, number.parse::<f64>(), unit) {
        let label = number * libm::pow(1000.0, power as f64);
        let most = u128::from(parameters) * 7 / 8;
        if libm::fabs(label - parameters as f64) > most as f64 {
            if let Some(unit) = part.last_mut() {
                *unit = unit.to_ascii_lowercase();
            }
            return (part.into_iter().collect(), Kinds { finetune: true, ..Kinds::default() });
        }
    }
    (part.into_iter().collect(), Kinds { size: true, ..Kinds::default() })
}

/// Sizes in words give way to those in numbers.
fn number_sizes_win(parts: &mut [(String, Kinds)]) {
    let has_digit = |part: &str| part.chars().any(|c| c.is_ascii_digit());
    if !parts.iter().any(|(part, kinds)| kinds.size && has_digit(part)) {
        return;
    }
    for (part, kinds) in parts {
        if kinds.size && part.chars().all(char::is_alphabetic) {
            kinds.size = false;
        }
    }
}

/// The basename is at the start, up to a part of another kind; later parts without a kind are finetunes.
fn find_basename(parts: &mut [(String, Kinds)]) {
    let mut at_start = true;
    for (part, kinds) in parts.iter_mut() {
        let word = kinds.none() && part.starts_with(char::is_alphabetic);
        if at_start && (word || kinds.version) {
            kinds.basename = true;
            continue;
        }
        at_start = false;
        if kinds.none() {
            kinds.finetune = true;
        }
    }
    for (_, kinds) in parts.iter_mut().rev() {
        if !(kinds.basename && kinds.others() > 0) {
            break;
        }
        kinds.basename = false;
    }
}

/// An id as a title: words in lower case get capitals, versions and sizes do not.
pub fn title(id: &str) -> String {
    let spaced = id.trim().replace('-', " ");
    let words: Vec<String> = spaced.split_whitespace().map(capitalized).collect();
    words.join(" ")
}

fn capitalized(word: &str) -> String {
    let is_lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
    let numbered = word.strip_prefix('v').is_some_and(is_version) && !word.starts_with("vv");
    if !is_lower || numbered || word.starts_with(|c: char| c.is_ascii_digit()) {
        return word.to_string();
    }
    let mut out = String::new();
    let mut inside = false;
    for c in word.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}
