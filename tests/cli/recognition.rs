//! What a checkpoint is: quantized already, one shard of many, a file of another kind, a part that no target holds.

use crate::support::Dir;
use quantoscope_core::DType;
use quantoscope_tests::models::{ImatrixSums, Kv, Rng, Tensor, gguf, imatrix, llama, safetensors};

/// A directory `m` of these tensors and this configuration.
fn model(tensors: &[Tensor], config: &str) -> Dir {
    let dir = Dir::new();
    std::fs::create_dir(dir.at("m")).expect("a directory");
    dir.write("m/model.safetensors", &safetensors(tensors));
    dir.write("m/config.json", config.as_bytes());
    dir
}

fn weight(name: &str, shape: &[u64]) -> Tensor {
    Tensor::random(name, DType::BF16, shape, &mut Rng(7))
}

fn packed(name: &str, dtype: DType, shape: &[u64]) -> Tensor {
    let bytes = dtype.bytes_for(shape.iter().product()).expect("a size");
    Tensor::raw(name, dtype, shape, vec![0x38; usize::try_from(bytes).expect("small")])
}

/// Every scheme that is not decoded, with and without a configuration.
#[test]
fn quantized_checkpoint_is_refused_by_every_command() {
    let scale = |name: &str| Tensor::of(name, DType::F32, &[1], &[0.01]);
    let beside = |weight: Tensor, name: &str| vec![weight, scale(name)];
    let u8s = |name: &str| packed(name, DType::U8, &[32, 32]);
    let i32s = |name: &str| packed(name, DType::I32, &[4, 32]);
    let mut cases: Vec<(&str, Vec<Tensor>, &str)> = Vec::new();
    // The scale of the activations alone.
    let f8 = packed("l.0.q_proj.weight", DType::F8_E4M3, &[32, 32]);
    cases.push(("FP8", beside(f8, "l.0.q_proj.input_scale"), "{}"));
    let gptq = [i32s("l.0.q_proj.qweight"), packed("l.0.q_proj.g_idx", DType::I32, &[32])];
    cases.push(("GPTQ", gptq.to_vec(), "{}"));
    let scales = weight("l.0.q_proj.scales", &[1, 256]);
    cases.push(("AWQ", vec![packed("l.0.q_proj.qweight", DType::I32, &[32, 32]), scales], "{}"));
    cases.push(("compressed-tensors", vec![i32s("l.0.q_proj.weight_packed")], "{}"));
    let u32s = packed("l.0.q_proj.weight", DType::U32, &[32, 8]);
    cases.push(("MLX", beside(u32s.clone(), "l.0.q_proj.scales"), "{}"));
    cases.push(("MLX 4-bit", beside(u32s, "l.0.q_proj.biases"), r#"{"quantization":{"bits":4}}"#));
    let nf4 = "l.0.q_proj.weight.quant_state.bitsandbytes__nf4";
    cases.push(("bitsandbytes NF4", beside(u8s("l.0.q_proj.weight"), nf4), "{}"));
    let i8s = packed("l.0.q_proj.weight", DType::I8, &[32, 32]);
    cases.push(("bitsandbytes 8-bit", beside(i8s.clone(), "l.0.q_proj.SCB"), "{}"));
    cases.push(("I8 weights", vec![i8s], "{}"));
    let bitnet = r#"{"quantization_config":{"quant_method":"bitnet"}}"#;
    cases.push(("BitNet", beside(u8s("l.0.q_proj.weight"), "l.0.q_proj.weight_scale"), bitnet));
    // A method of which nothing but the name is known.
    let other = r#"{"text_config":{"quantization_config":{"quant_method":"new"}}}"#;
    cases.push(("new", vec![u8s("l.0.q_proj.codes_of_some_kind")], other));
    for (method, tensors, config) in cases {
        let dir = model(&[tensors, vec![weight("l.0.k_proj.weight", &[32, 32])]].concat(), config);
        let text = format!("quantized already ({method})");
        for line in [
            "quantize m -o o.gguf --type q8_0",
            "quantize m -o o.gguf --type bf16",
            "quantize m -o q --to q4",
            "quantize m -o o.safetensors --type bf16",
            "plan m --recipe q4_k_m",
            "sweep m",
            "inspect m --stats",
            "compare m m",
        ] {
            let ended = dir.run(line).exits(6);
            assert!(ended.err.contains(&text), "{line}: {} instead of {text}", ended.err);
        }
        let json = dir.run("inspect m --json").exits(0).json();
        assert!(json.get("parameters").is_none() && json["quantized_as"] == method, "{json}");
        // Without the packed tensors the rest is a model.
        dir.run("plan m --type q8_0 --include k_proj").exits(0);
    }
}

#[test]
fn plain_tensors_are_not_taken_for_quantized_ones() {
    let alone =
        [packed("l.0.q_proj.weight", DType::F8_E4M3, &[32, 32]), weight("l.1.q_proj.weight", &[32, 32])];
    let dir = model(&alone, "{}");
    let told = dir.run("plan m --type q8_0").exits(0).err;
    assert!(told.contains("1 tensors of 8-bit floats have no scale"), "{told}");
    // Positions and masks are integers too; the configuration may be left over.
    let ids = packed("embeddings.position_ids", DType::I64, &[1, 8]);
    let dir = model(
        &[ids, weight("l.0.q_proj.weight", &[32, 32])],
        r#"{"quantization_config":{"quant_method":"fp8"}}"#,
    );
    let told = dir.run("plan m --type q8_0").exits(0).err;
    assert!(told.contains("config.json says FP8"), "{told}");
    // Llama has none of it.
    let dir = Dir::with_model_directory(false);
    assert!(!dir.run("plan m --type q8_0").exits(0).err.contains("quantized"));
}

/// A set of shards without an index, two of `count`.
fn shards(dir: &Dir, folder: &str, count: &str) -> [String; 2] {
    std::fs::create_dir(dir.at(folder)).expect("a directory");
    let names = [1, 2].map(|i| format!("{folder}/model-{i:05}-of-{count}.safetensors"));
    for (i, name) in names.iter().enumerate() {
        dir.write(name, &safetensors(&[weight(&format!("l.{i}.q_proj.weight"), &[32, 32])]));
    }
    names
}

#[test]
fn shard_stands_for_its_whole_set() {
    for count in ["00002", "000002"] {
        let dir = Dir::new();
        let names = shards(&dir, "m", count);
        let of = |line: &str| dir.run(&format!("inspect {line} --json")).exits(0).json();
        for input in ["m", &names[0], &names[1]] {
            let json = of(input);
            assert_eq!(json["tensors"].as_array().map(Vec::len), Some(2), "{input}");
            let told = json["warnings"].to_string();
            assert_eq!(told.contains("is one of 2 files"), input != "m", "{told}");
        }
        // Weights of Mistral's own format repeat the model.
        dir.write("m/consolidated.safetensors", &safetensors(&[weight("a.weight", &[32, 32])]));
        assert_eq!(of("m")["tensors"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn incomplete_set_names_the_missing_files() {
    let dir = Dir::new();
    let names = shards(&dir, "m", "00004");
    for input in ["m", &names[0]] {
        let err = dir.run(&format!("plan {input} --type q8_0")).exits(4).err;
        assert!(
            err.contains("2 of its files are missing: ") && err.contains("model-00003-of-00004"),
            "{err}"
        );
        assert!(err.contains("model-00004-of-00004") && !err.contains("00001-of"), "{err}");
    }
    // With an index, its files are the set.
    dir.write(
        "m/model.safetensors.index.json",
        br#"{"weight_map":{"l.0.q_proj.weight":"model-00001-of-00004.safetensors","x":"other.safetensors"}}"#,
    );
    let err = dir.run(&format!("inspect {}", names[0])).exits(4).err;
    assert!(err.contains("1 of its files is missing: other.safetensors"), "{err}");
    let err = dir.run(&format!("inspect {}", names[1])).exits(4).err;
    assert!(err.contains("the index does not list"), "{err}");
}

#[test]
fn file_that_is_no_model_says_what_it_is() {
    let dir = Dir::new();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2200119864\n";
    let zeros = [0; 4096];
    let cases: [(&str, &[u8], &str); 10] = [
        ("a.safetensors", lfs, "Git LFS pointer: the weights (2200119864 bytes) were not fetched"),
        ("a.gguf", lfs, "git lfs pull"),
        ("b.safetensors", b"<!DOCTYPE html><html><head></head></html>", "web page"),
        ("b.gguf", b"\n <HTML><body>Sign in</body></HTML>", "web page"),
        ("c.safetensors", b"<?xml version=\"1.0\"?><Error/>", "web page"),
        ("d.safetensors", &zeros, "begins with zeros"),
        ("e.safetensors", b"PK\x03\x04 and the rest of a zip archive", "zip archive"),
        ("f.gguf", b"\x80\x02}q\x00(X\x05\x00\x00\x00model", "Python pickle"),
        ("g.safetensors", b"\x1f\x8b\x08\x00 and the rest of it", "decompress"),
        ("h.gguf", b"\x89HDF\r\n\x1a\n and the rest of it", "HDF5"),
    ];
    for (name, bytes, word) in cases {
        dir.write(name, bytes);
        let err = dir.run(&format!("inspect {name}")).exits(4).err;
        assert!(err.contains(word), "{name}: {err}");
    }
    // A shard that was not fetched.
    let names = shards(&dir, "m", "00002");
    dir.write(&names[1], lfs);
    assert!(dir.run("inspect m").exits(4).err.contains("git lfs pull"));
}

#[test]
fn directory_that_is_no_model_says_what_to_open() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.at("hub/snapshots/abc")).expect("directories");
    std::fs::create_dir_all(dir.at("empty")).expect("a directory");
    std::fs::create_dir_all(dir.at("pickles")).expect("a directory");
    dir.write("hub/snapshots/abc/model.safetensors", &safetensors(&[weight("a.weight", &[32, 32])]));
    dir.write("pickles/pytorch_model.bin", b"PK\x03\x04");
    for (input, words) in [
        ("hub", "open one of its folders, which do: snapshots/abc"),
        ("empty", "holds no files"),
        ("pickles", "pytorch_model.bin, a PyTorch file"),
    ] {
        let err = dir.run(&format!("inspect {input}")).exits(3).err;
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn adapter_is_not_converted_as_a_model() {
    let name = |part: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight");
    let dir = model(&[weight(&name("A"), &[32, 64]), weight(&name("B"), &[64, 32])], "{}");
    let err = dir.run("quantize m -o o.gguf --type q4_0").exits(6).err;
    assert!(err.contains("a LoRA adapter") && err.contains("merge it"), "{err}");
}

/// Buffers are left out; what does not fit is told at once, with a way on.
#[test]
fn odd_tensor_does_not_stop_a_model() {
    let mask = packed("gpt_neox.layers.0.attention.bias", DType::U8, &[1, 1, 64, 64]);
    let buffers = [mask, Tensor::of("gpt_neox.layers.0.attention.masked_bias", DType::F32, &[], &[-1e9])];
    let qkv = weight("gpt_neox.layers.0.attention.query_key_value.weight", &[96, 32]);
    // The bias of a projection has nearly the same name.
    let bias = Tensor::of("gpt_neox.layers.0.attention.query_key_value.bias", DType::F32, &[96], &[0.5; 96]);
    let dir = model(&[&buffers[..], &[qkv, bias]].concat(), r#"{"model_type":"gpt_neox"}"#);
    let json = dir.run("quantize m -o o.gguf --type q8_0 --json").exits(0).json();
    let left: Vec<_> =
        json["result"]["left_out"].as_array().expect("names").iter().map(|t| &t["name"]).collect();
    assert_eq!(left, ["gpt_neox.layers.0.attention.bias", "gpt_neox.layers.0.attention.masked_bias"]);
    assert_eq!(json["result"]["tensors"].as_array().map(Vec::len), Some(2));
    dir.run("compare m o.gguf").exits(0);
    dir.run("verify o.gguf --against m").exits(0);

    let long = format!("tower.{}.weight", "x".repeat(60));
    let wide = packed("tower.five", DType::BF16, &[1, 1, 2, 2, 2]);
    let ids = packed("tower.ids", DType::U8, &[4]);
    let dir = model(&[weight(&long, &[32, 32]), wide, ids, weight("l.0.q_proj.weight", &[32, 32])], "{}");
    let err = dir.run("plan m --type q8_0").exits(6).err;
    for word in ["3 tensors", "73 bytes", "5 axes", "no type U8", "--exclude 'tower.*'"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let json = dir.run("quantize m -o o.gguf --type q8_0 --exclude tower.* --json").exits(0).json();
    assert_eq!(json["result"]["left_out"].as_array().map(Vec::len), Some(3));
    dir.run("verify o.gguf --against m").exits(0);
    dir.run("compare m o.gguf").exits(5);
    dir.run("compare m o.gguf --exclude tower.*").exits(0);
    dir.run("sweep m --exclude tower.* --types q8_0").exits(0);
    // A pattern that matches nothing, and one that leaves nothing.
    for line in
        ["plan m --type q8_0 --exclude nothing", "plan m --type q8_0 --exclude *", "sweep m --include no"]
    {
        dir.run(line).exits(2);
    }
}

#[test]
fn names_of_every_family_have_their_role() {
    let kept = [
        "shared.weight",
        "backbone.embeddings.weight",
        "transformer.output_layer.weight",
        "emb.weight",
        "head.weight",
        "proj_out.weight",
        "decoder.token_embedding.weight",
        "model.layers.0.mlp.router.weight",
        "decoder.positional_embedding.weight",
        "mtp.0.shared_head.head.weight",
        "embed.weight",
    ];
    let mut tensors: Vec<Tensor> = kept.iter().map(|n| weight(n, &[64, 64])).collect();
    tensors.extend([weight("l.0.laurel.linear_left.weight", &[64, 64]), weight("score.weight", &[1, 64])]);
    tensors.push(weight("l.0.time_mix.weight", &[1, 1, 64]));
    tensors.push(weight("layers.0.mlp.down_proj.weight", &[64, 64]));
    let dir = model(&tensors, "{}");
    for line in ["plan m --type q4_0 --json", "plan m --recipe q4_0 --leave-output-tensor --json"] {
        let json = dir.run(line).exits(0).json();
        for t in json["result"]["tensors"].as_array().expect("rows") {
            let name = t["name"].as_str().expect("a name");
            let quantized = t["dtype_out"] == "Q4_0";
            let ends = line.contains("recipe") && kept.contains(&name) && !name.contains("router");
            assert!(ends || quantized == name.ends_with("down_proj.weight"), "{line}: {t}");
        }
    }
}

#[test]
fn override_that_does_nothing_is_refused() {
    let dir = Dir::with_model_directory(false);
    let plan = |more: &str| dir.run(&format!("plan m --recipe q8_0 {more}"));
    for regex in
        [r"blk\.0\.ffn_down=q4_0", "(ffn_down|ffn_up)=q4_0", "^blk.0.ffn_down=q4_0", "ffn_d[a-z]+=q4_0"]
    {
        assert!(plan(&format!("--tensor-type {regex}")).exits(0).out.contains("Q4_0"), "{regex}");
    }
    assert!(plan("--tensor-type nothing=q4_0").exits(2).err.contains("nothing=q4_0 matches no tensor"));
    assert!(plan("--tensor-type *_norm=q4_0").exits(2).err.contains("keep their precision"));
    assert!(plan("--tensor-type ffn_down=q4_k").exits(2).err.contains("no whole blocks of 256"));
    assert!(plan("--tensor-type ffn_down=q4_k --lenient").exits(0).err.contains("warning: --tensor-type"));
    assert!(dir.run("plan m --type iq4").exits(2).err.contains("iq4_nl, iq4_xs"));
    assert!(dir.run("plan m --recipe q4_km").exits(2).err.contains("q4_k_m"));
    let err = dir.run("plan m --type q4_k").exits(0).err;
    assert!(err.contains("matrices keep their type") && err.contains("--recipe q4_k_m"), "{err}");
}

#[test]
fn experts_never_reached_are_told() {
    let weights = Rng(3).weights(4 * 8 * 256);
    let tensor = Tensor::of("blk.0.ffn_down_exps.weight", DType::F32, &[4, 8, 256], &weights);
    let dir = Dir::new();
    dir.write("m.gguf", &gguf(&[("general.architecture", Kv::Text("llama"))], &[tensor]));
    let sums = |zero: usize| (0..4).map(|e| vec![if e == zero { 0.0 } else { 1.0 }; 256]).collect::<Vec<_>>();
    for (counts, zero, words) in [
        ([1.0, 1.0, 0.0, 1.0], 2, "never reached"),
        ([1.0, 1.0, 1.0, 1.0], 2, "only zeros"),
        ([1.0, 1.0, 1.0, 1.0], 9, ""),
    ] {
        let entry: ImatrixSums<'_> = ("blk.0.ffn_down_exps.weight", sums(zero), counts.to_vec());
        dir.write("i.gguf", &imatrix(&[entry]));
        let err = dir.run("plan m.gguf --type q4_k --imatrix i.gguf").exits(0).err;
        let told = err.contains("blk.0.ffn_down_exps.weight (1 of 4)") && err.contains(words);
        assert_eq!(told, !words.is_empty(), "{err}");
    }
}

/// The same values under other names and in other forms.
#[test]
fn compare_pairs_what_is_equal() {
    let values = |seed| Rng(seed).weights(32 * 32);
    let t = |name: &str, shape: &[u64], values: &[f32]| Tensor::of(name, DType::F32, shape, values);
    let (mut each, mut gate_up, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for e in 0..3 {
        let [g, u, d] = [values(e), values(10 + e), values(20 + e)];
        for (name, v) in [("gate", &g), ("up", &u), ("down", &d)] {
            each.push(t(&format!("model.layers.0.mlp.experts.{e}.{name}_proj.weight"), &[32, 32], v));
        }
        gate_up.extend([g, u].concat());
        down.extend(d);
    }
    let stacked = [
        t("model.layers.0.mlp.experts.gate_up_proj", &[3, 64, 32], &gate_up),
        t("model.layers.0.mlp.experts.down_proj", &[3, 32, 32], &down),
    ];
    let pair = |a: &[Tensor], b: &[Tensor]| {
        let dir = Dir::new();
        dir.write("a.safetensors", &safetensors(a));
        dir.write("b.safetensors", &safetensors(b));
        dir
    };
    let dir = pair(&each, &stacked);
    dir.run("compare a.safetensors b.safetensors").exits(0);
    dir.run("compare b.safetensors a.safetensors").exits(0);
    // Two experts exchanged.
    down.rotate_left(32 * 32);
    let dir =
        pair(&each, &[stacked[0].clone(), t("model.layers.0.mlp.experts.down_proj", &[3, 32, 32], &down)]);
    dir.run("compare a.safetensors b.safetensors").exits(5);

    let embedding = t("model.embed_tokens.weight", &[32, 32], &values(1));
    let head = |v: &[f32]| t("lm_head.weight", &[32, 32], v);
    let dir = pair(std::slice::from_ref(&embedding), &[embedding.clone(), head(&values(1))]);
    dir.run("compare a.safetensors b.safetensors").exits(0);
    dir.run("compare b.safetensors a.safetensors").exits(0);
    let dir = pair(std::slice::from_ref(&embedding), &[embedding.clone(), head(&values(2))]);
    dir.run("compare a.safetensors b.safetensors").exits(5);

    let q = |prefix: &str| t(&format!("{prefix}layers.0.self_attn.q_proj.weight"), &[32, 32], &values(3));
    let v = |prefix: &str| t(&format!("{prefix}vision_tower.a.weight"), &[32, 32], &values(4));
    let dir = pair(&[q("language_model.model."), v("")], &[q("model.language_model."), v("model.")]);
    dir.run("compare a.safetensors b.safetensors").exits(0);

    // What stays alone names its likely partner.
    let dir =
        pair(&[t("a.x.mlp.weight", &[32, 32], &values(5))], &[t("b.y.mlp.weight", &[32, 32], &values(5))]);
    let err = dir.run("compare a.safetensors b.safetensors").exits(5).err;
    assert!(err.contains("b.y.mlp.weight"), "{err}");
}

#[test]
fn warnings_that_repeat_are_one_line() {
    let dir = Dir::new();
    dir.write("m.safetensors", &safetensors(&llama(DType::BF16, false, 1)));
    let err = dir.run("sweep m.safetensors --types q4_k,q8_0 --sample 1").exits(0).err;
    let lines: Vec<&str> = err.lines().filter(|l| l.contains("do not divide by the block")).collect();
    assert!(!lines.is_empty() && lines.len() <= 2, "{err}");
}
