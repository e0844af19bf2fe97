//! What a sweep says of rotated tensors is what a plain sweep says of a rotated model.

use quantoscope_core::format::Container;
use quantoscope_core::plan::preview::{Preview, parse_rotations, preview};
use quantoscope_core::plan::{Axis, convert, measure, sample};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::report::{RotationReport, StatsReport, rotated, stats};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_core::schedule::Budget;
use quantoscope_core::{Code, DType};
use quantoscope_tests::memory::{MemoryModel, run, run_shuffled};
use quantoscope_tests::models::{Rng, Tensor, llama, safetensors};
use serde_json::Value;

/// That of [`llama`], with all that the rules of its family ask for.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 96, "tie_word_embeddings": false}"#;

const TYPES: [Encoding; 5] = [
    Encoding::Type(DType::Q8_0),
    Encoding::Type(DType::Q4_0),
    Encoding::Type(DType::Q4_1),
    Encoding::LatticeAsym,
    Encoding::LatticeSym,
];

fn model(tensors: &[Tensor], config: Option<&str>) -> MemoryModel {
    let config = config.map(|text| ("config.json".to_string(), text.as_bytes().to_vec()));
    let weights = ("model.safetensors".to_string(), safetensors(tensors));
    MemoryModel::directory(std::iter::once(weights).chain(config).collect()).expect("a sound model")
}

fn small() -> MemoryModel {
    model(&llama(DType::BF16, false, 42), Some(CONFIG))
}

fn planned(world: &MemoryModel, words: &[&str]) -> Preview {
    let rotations = parse_rotations(words, SEED).expect("rotation options");
    preview(&world.checkpoint, &TYPES, &rotations, &|t| t.shape.axes().len() >= 2).expect("a plan")
}

fn measured(world: &MemoryModel, preview: &Preview, budget: Budget, seed: Option<u64>) -> RotationReport {
    let made = run_shuffled(&preview.plan, &[world], budget, seed).expect("a run");
    rotated(preview, &made.collected, 8)
}

fn report(world: &MemoryModel, words: &[&str]) -> RotationReport {
    measured(world, &planned(world, words), Budget::default(), None)
}

fn swept(world: &MemoryModel) -> StatsReport {
    let mut plan = measure::sweep(&world.checkpoint, &TYPES, None, &|_| true).expect("a plan");
    plan.outputs.iter_mut().for_each(|o| o.metrics.histogram = true);
    let made = run(&plan, &[world], Budget::default()).expect("a run");
    stats(&plan, &made.collected, 8)
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("JSON")
}

/// The errors of `report` under `rotation`, and the statistics and histogram, are those of `other`, tensor by tensor.
fn same_as(report: &RotationReport, rotation: &str, other: &StatsReport) -> usize {
    let mut compared = 0;
    for t in &report.tensors {
        let frame = t.frames.iter().find(|f| f.rotation == rotation).expect("a frame");
        if frame.frame.absent.is_some() {
            continue;
        }
        let own = other.tensors.iter().find(|o| o.name == t.name).expect("the tensor");
        assert_eq!(json(&frame.stats), json(&own.stats), "{} {rotation}", t.name);
        assert_eq!(json(&frame.histogram), json(&own.histogram), "{} {rotation}", t.name);
        for (e, row) in t.encodings.iter().zip(&own.encodings) {
            let found = e.rotated.iter().find(|r| r.rotation == rotation).expect("an error");
            assert_eq!(found.error, row.error, "{} {} {rotation}", t.name, row.encoding);
            let gain = row.error.as_ref().unwrap().sqnr_db.unwrap()
                - e.plain.error.as_ref().unwrap().sqnr_db.unwrap();
            assert_eq!(found.gain_db, Some(gain));
        }
        compared += 1;
    }
    compared
}

#[test]
fn a_rotated_tensor_is_measured_as_a_rotated_conversion_makes_it() {
    let world = small();
    let report = report(&world, &["none", "block:32", "quarot", "r2", "fold"]);
    assert_eq!(report.rotations, ["block:32", "quarot", "r2", "fold"]);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    for (word, tensors) in [("block:32", 16), ("quarot", 16), ("r2", 4), ("fold", 11)] {
        // Block types are rotated in binary32, as an F32 conversion by rules of version 1.
        let rotate = Some(RotationOptions {
            rules: 1,
            ..RotationOptions::parse(word, SEED).expect("rotation options")
        });
        let recipe = Recipe { rotate, pure: true, ..Recipe::new(Container::Safetensors, Some(DType::F32)) };
        let plan = convert::plan(&world.checkpoint, &recipe, None, false).expect("a plan");
        let made = run(&plan, &[&world], Budget::default()).expect("a run");
        let other = MemoryModel::file("model.safetensors", made.files[0].clone()).expect("a sound file");
        assert_eq!(same_as(&report, word, &swept(&other)), tensors, "{word}");
    }
    // As it is, it is measured as ever.
    let plain = swept(&world);
    for t in &report.tensors {
        let own = plain.tensors.iter().find(|o| o.name == t.name).expect("the tensor");
        let errors = t.encodings.iter().map(|e| json(&e.plain)).collect::<Vec<_>>();
        assert_eq!((json(&errors), json(&t.stats)), (json(&own.encodings), json(&own.stats)));
        assert!(t.encodings.iter().all(|e| e.floor.is_some() && e.predicted.is_some()));
    }
    let sides = |name: &str| {
        let t = report.tensors.iter().find(|t| t.name.contains(name)).expect("a tensor");
        t.frames.iter().map(|f| (f.frame.along, f.frame.folded)).collect::<Vec<_>>()
    };
    let (rows, columns) = (Some(Axis::Out), Some(Axis::In));
    assert_eq!(sides("down_proj"), [(rows, false), (rows, false), (None, false), (None, false)]);
    assert_eq!(sides("up_proj"), [(columns, true), (columns, true), (None, false), (None, true)]);
    assert_eq!(sides("v_proj"), [(columns, true), (columns, true), (rows, false), (None, true)]);
    assert_eq!(sides("embed"), [(columns, false), (columns, false), (None, false), (None, false)]);
}

#[test]
fn without_rules_rows_are_turned_by_themselves() {
    let rng = &mut Rng(5);
    let tensors = [
        Tensor::random("a.weight", DType::F32, &[48, 96], rng),
        Tensor::random("b.weight", DType::F32, &[8, 94], rng),
        Tensor::random("c.weight", DType::F32, &[3, 4, 64], rng),
    ];
    let world = model(&tensors, None);
    let report = report(&world, &["block:32", "quarot", "r2"]);
    let codes: Vec<&str> = report.warnings.iter().map(|w| w.code).collect();
    assert_eq!(codes, ["row_not_divisible", "not_by_rules", "not_by_rules"]);
    for (word, form, compared) in [("block:32", Form::Block(32), 2), ("quarot", Form::Full, 2)] {
        let turned = tensors.iter().map(|t| {
            let mut values: Vec<f32> = t.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            if let Ok(rotation) = Rotation::new(*t.shape.last().expect("an axis"), form, SEED) {
                rotation.rows(&mut values);
            }
            Tensor::of(&t.name, DType::F32, &t.shape, &values)
        });
        let other = model(&turned.collect::<Vec<_>>(), None);
        assert_eq!(same_as(&report, word, &swept(&other)), compared, "{word}");
    }
    let absent: Vec<&str> =
        report.tensors[1].frames.iter().filter_map(|f| f.frame.absent.as_deref()).collect();
    assert_eq!(absent[0], "an axis of 94 does not divide into blocks of 32");
    assert_eq!(absent[1], "no Hadamard matrix of order 94 can be constructed");
    assert!(
        absent[2].starts_with("the values of heads are not known: there is no config.json"),
        "{absent:?}"
    );
    assert!(report.tensors[1].encodings.iter().all(|e| e.rotated.is_empty()));
    assert!(report.tensors.iter().flat_map(|t| &t.frames).all(|f| !f.frame.by_rules && !f.frame.folded));
}

/// A block that leaves no model as it was is still a preview of the encoding; the whole stream goes by the rules.
#[test]
fn what_is_not_exact_is_said_to_be_a_preview() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/families/gpt2");
    let file = |name: &str| (name.to_string(), std::fs::read(folder.join(name)).expect("a file"));
    let world =
        MemoryModel::directory([file("model.safetensors"), file("config.json")].into()).expect("a model");
    let report = report(&world, &["block:4", "quarot"]);
    let told: Vec<&str> =
        report.warnings.iter().filter(|w| w.code == "not_by_rules").map(|w| w.message.as_str()).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("block:4: no exact rotation of this model, so rows are turned"), "{told:?}");
    for t in &report.tensors {
        assert_eq!(
            t.frames.iter().map(|f| f.frame.by_rules).collect::<Vec<_>>(),
            [false, true],
            "{}",
            t.name
        );
    }
}

#[test]
fn windows_change_nothing() {
    let world = small();
    let preview = planned(&world, &["block:32", "quarot", "r2"]);
    let expected = json(&measured(&world, &preview, Budget::default(), None));
    for (memory, seed) in [(1 << 20, 3), (160 << 10, 4)] {
        let budget = Budget { memory, workers: 1 };
        assert_eq!(json(&measured(&world, &preview, budget, Some(seed))), expected, "{memory}");
    }
}

/// Strips of columns keep whole what runs along the rows.
#[test]
fn a_sample_of_what_runs_along_rows_is_of_whole_columns() {
    let rng = &mut Rng(9);
    let wider = |t: Tensor| match t.shape.as_slice() {
        [64, 96] => Tensor::random(&t.name, DType::BF16, &[64, 2080], rng),
        [96, 64] if t.name.contains("mlp") => Tensor::random(&t.name, DType::BF16, &[2080, 64], rng),
        _ => t,
    };
    let wide: Vec<Tensor> = llama(DType::BF16, false, 42).into_iter().map(wider).collect();
    let world = model(&wide, Some(CONFIG));
    let mut part = planned(&world, &["quarot"]);
    sample(&mut part.plan, 20);
    let told = measured(&world, &part, Budget::default(), None);
    let shuffled = measured(&world, &part, Budget { memory: 400 << 10, workers: 1 }, Some(1));
    assert_eq!(json(&told), json(&shuffled));
    let recipe = Recipe {
        rotate: Some(RotationOptions {
            rules: 1,
            ..RotationOptions::parse("quarot", SEED).expect("rotation options")
        }),
        ..Recipe::new(Container::Safetensors, Some(DType::F32))
    };
    let plan =
        convert::plan(&world.checkpoint, &Recipe { pure: true, ..recipe }, None, false).expect("a plan");
    let made = run(&plan, &[&world], Budget::default()).expect("a run");
    let other = MemoryModel::file("model.safetensors", made.files[0].clone()).expect("a sound file");
    let mut strips = 0;
    for (index, frames) in part.frames.iter().enumerate() {
        let output = &part.plan.outputs[frames[0].output.expect("a frame")];
        let first = output.segments[0].from.columns.as_deref();
        assert_eq!(first.is_some(), output.name.contains("down_proj"), "{}", output.name);
        if first.is_none() {
            continue;
        }
        strips += 1;
        // 20 rows of 2080 are as many as 650 columns of 64: three strips, the first and the last among them.
        let at: Vec<u64> = output.segments.iter().filter_map(|p| Some(p.from.columns.as_ref()?.at)).collect();
        assert_eq!((at.len(), at[0], at[2]), (3, 0, 7 * 256), "{at:?}");
        let bytes = other.tensor(&output.name);
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let picked: Vec<f32> = at
            .iter()
            .flat_map(|&at| {
                values.chunks(2080).flat_map(move |row| row[at as usize..at as usize + 256].to_vec())
            })
            .collect();
        let own = MemoryModel::safetensors(&[Tensor::of(&output.name, DType::F32, &[3 * 64, 256], &picked)]);
        let expected = swept(&own);
        let frame = &told.tensors[index];
        assert_eq!(json(&frame.frames[0].stats), json(&expected.tensors[0].stats));
        assert_eq!(frame.frames[0].weights, Some(3 * 64 * 256));
        for (e, row) in frame.encodings.iter().zip(&expected.tensors[0].encodings) {
            assert_eq!(e.rotated[0].error, row.error, "{}", row.encoding);
        }
    }
    assert_eq!(strips, 2);
}

#[test]
fn a_tensor_with_nan_is_refused_and_the_others_are_measured() {
    let mut tensors = llama(DType::F32, false, 42);
    let at = tensors.iter().position(|t| t.name.contains("0.mlp.down_proj")).expect("a tensor");
    tensors[at].bytes[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    let report = report(&model(&tensors, Some(CONFIG)), &["quarot"]);
    for t in &report.tensors {
        let spoilt = t.name == tensors[at].name;
        for e in &t.encodings {
            let refused = e.rotated[0].refused.as_ref();
            assert_eq!(refused.and_then(|r| r.detail().element), spoilt.then_some(100), "{}", t.name);
        }
        assert_eq!(t.frames[0].stats.is_none(), spoilt);
    }
}

/// Values that are drawn one by one from a distribution with long tails.
fn tailed(rng: &mut Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.weight() * if rng.below(50) == 0 { 8.0 } else { 1.0 }).collect()
}

#[test]
fn outliers_are_spread_to_the_floor_and_the_histogram_foretells_their_error() {
    let rng = &mut Rng(3);
    let values = tailed(rng, 256 * 1024);
    let world = model(&[Tensor::of("a.weight", DType::F32, &[256, 1024], &values)], None);
    let report = report(&world, &["block:32", "quarot"]);
    let near =
        |a: f64, b: f64, off: f64, what: &str| assert!((a / b - 1.0).abs() < off, "{what}: {a} is not {b}");
    for e in &report.tensors[0].encodings {
        let name = e.plain.encoding.name();
        let stored = e.plain.error.as_ref().and_then(|e| e.relative_error).expect("an error");
        near(e.predicted.expect("a prediction"), stored, 0.05, name);
        let whole = e.rotated[1].error.as_ref().and_then(|e| e.relative_error).expect("an error");
        near(whole, e.floor.expect("a floor"), 0.02, name);
        assert!(e.rotated.iter().all(|r| r.gain_db > Some(0.5)), "{e:?}");
    }
    let words = &report.summary.words;
    assert!(
        words
            .iter()
            .any(|w| w.starts_with("quarot: weight error falls by more than 0.5 dB in 1 of 1 tensors and")),
        "{words:?}"
    );
    assert!(words.iter().any(|w| w.starts_with("Weight error falls by ")), "{words:?}");
    gives_no_verdict(words);
}

/// Decibels of weight error are no verdict about a model; the words name what decides.
fn gives_no_verdict(words: &[String]) {
    let all = words.join(" ");
    assert!(all.contains("This does not decide whether the model gains"), "{all}");
    assert!(all.contains("perplexity or KL divergence"), "{all}");
    for verdict in ["gains here", "gains little", "helps", "recommended"] {
        assert!(!all.contains(verdict), "{all}");
    }
}

/// The published claim that rotation helped compared two encodings; the report says which part was the rotation's.
#[test]
fn little_is_gained_where_nothing_sticks_out() {
    let world = model(&[Tensor::random("a.weight", DType::F32, &[128, 1024], &mut Rng(8))], None);
    let summary = report(&world, &["quarot"]).summary;
    let told = "stored values are near Gaussian (median kurtosis 2.";
    assert!(summary.words.iter().any(|w| w.contains(told)), "{:?}", summary.words);
    gives_no_verdict(&summary.words);
    let lesson = &summary.lessons[0];
    assert_eq!((lesson.symmetric, lesson.asymmetric), (Encoding::LatticeSym, Encoding::LatticeAsym));
    assert_eq!((lesson.tensors, lesson.lost), (1, 1));
    assert!(lesson.median_db < -1.0 && lesson.symmetric_db.abs() < 0.5 && lesson.asymmetric_db.abs() < 0.5);
    let told = "Q4_SYM rotated (quarot) has more weight error than Q4_ASYM as stored in 1 of 1 tensors";
    assert!(summary.words.iter().any(|w| w.starts_with(told)), "{:?}", summary.words);
}

#[test]
fn wishes_are_named_once() {
    for twice_or_unknown in [&["quarot", "block:32", "quarot"][..], &["r1", "quarot"], &["rotate"]] {
        let error = parse_rotations(twice_or_unknown, SEED).expect_err("refused");
        assert_eq!(error.code(), Code::Usage, "{twice_or_unknown:?}: {error}");
    }
    assert_eq!(parse_rotations(&["none"], SEED).map(|w| w.len()), Ok(0));
}
