//! The settings of the quantization in `config.json`: those of the model, and those of modules that differ.

use crate::dtype::{DType, MlxType};
use crate::plan::Output;
use crate::recipe::{MlxMixed, Recipe};
use alloc::string::String;
use serde_json::{Map, Value, json};

/// The settings; `None` if no output is quantized. Beside a mixed recipe every module has its own, as mlx-lm writes it.
pub(super) fn of(recipe: &Recipe, outputs: &[Output]) -> Option<Value> {
    let quantized = || {
        outputs.iter().filter_map(|o| match o.dtype {
            DType::MLX(of) => Some((o.name.strip_suffix(".weight")?, of)),
            _ => None,
        })
    };
    let (_, first) = quantized().next()?;
    let named = recipe.dtype.or(recipe.mixed.map(MlxMixed::low));
    let usual = match named {
        Some(DType::MLX(of)) => of,
        _ => first,
    };
    let mut settings = of_type(usual);
    for (module, of) in quantized() {
        if recipe.mixed.is_some() || !alike(of, usual) {
            settings.insert(module.into(), Value::Object(of_type(of)));
        }
    }
    Some(Value::Object(settings))
}

/// Whether two types differ in the type of their scales at most, which the configuration does not name.
fn alike(a: MlxType, b: MlxType) -> bool {
    (a.bits(), a.group()) == (b.bits(), b.group())
}

fn of_type(of: MlxType) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("group_size".into(), json!(of.group()));
    map.insert("bits".into(), json!(of.bits()));
    map.insert("mode".into(), json!("affine"));
    map
}
