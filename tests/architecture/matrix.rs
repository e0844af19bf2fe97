//! The table in `docs/types.md` is the one in the code. `make matrix` rewrites it.

use crate::sources::root;
use quantoscope_core::DType;
use quantoscope_core::dtype::DTypeKind;
use quantoscope_core::quant::{Encoding, ImportanceUse, decoder, encoder};
use quantoscope_core::recipe::can_target;

const START: &str = "<!-- matrix: made from the table of types by `make matrix` -->\n";
const END: &str = "<!-- /matrix -->\n";

fn containers(d: DType) -> String {
    let all = [
        ("safetensors", d.safetensors_name().is_some()),
        ("GGUF", d.ggml_id().is_some()),
        ("lattice", d == DType::LATTICE_Q4),
        ("APR", matches!(d, DType::APR_Q4 | DType::APR_Q8)),
    ];
    all.iter().filter(|(_, holds)| *holds).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn importance(e: Encoding) -> &'static str {
    match e.importance() {
        _ if encoder(e).is_none() => "",
        ImportanceUse::Ignored => "no use",
        ImportanceUse::Optional => "used",
        ImportanceUse::Wanted => "wanted",
        ImportanceUse::Required => "required",
    }
}

fn row(name: &str, d: DType, writes: bool, importance: &str) -> String {
    let only_read = matches!(d, DType::APR_Q4 | DType::APR_Q8);
    let write = if writes {
        "yes"
    } else if only_read {
        "no"
    } else {
        "kept only"
    };
    let bits = d.bits_per_weight();
    format!("| {name} | {bits} | {} | yes | {write} | {importance} |\n", containers(d))
}

/// The README table, in the order of the code.
fn matrix() -> String {
    let mut text =
        String::from("| type | bits per weight | containers | read | write | importance matrix |\n");
    text += "|---|---|---|---|---|---|\n";
    let (known, other): (Vec<DType>, Vec<DType>) = DType::ALL.iter().partition(|d| decoder(**d).is_some());
    for &d in known.iter().filter(|d| **d != DType::LATTICE_Q4) {
        text += &row(d.name(), d, can_target(d), importance(Encoding::Type(d)));
    }
    for e in [Encoding::LatticeAsym, Encoding::LatticeSym] {
        text += &row(e.name(), e.dtype(), encoder(e).is_some(), importance(e));
    }
    let weights = other.iter().filter(|d| d.kind() != DTypeKind::Integer).map(|d| d.name());
    let names: Vec<&str> = weights.collect();
    text + &format!("| {}, integers, BOOL, C64 | | | no | kept only | |\n", names.join(", "))
}

#[test]
fn type_table_of_docs_equals_code() {
    let path = root().join("docs/types.md");
    let readme = std::fs::read_to_string(&path).expect("docs/types.md");
    let (before, rest) = readme.split_once(START).expect("the matrix starts");
    let (found, after) = rest.split_once(END).expect("the matrix ends");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, [before, START, &matrix(), END, after].concat()).expect("written");
        return;
    }
    assert!(found == matrix(), "the table in docs/types.md is stale: run `make matrix`");
}
