//! `sweep --rotate`.

use crate::support::Dir;
use serde_json::Value;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2, "vocab_size": 96, "tie_word_embeddings": false}"#;

fn dir() -> Dir {
    let dir = Dir::with_model_directory(false);
    dir.write("m/config.json", CONFIG.as_bytes());
    dir
}

const LINE: &str = "sweep m --types q4_0,q4_sym,q4_asym --rotate none,block:32,quarot";

#[test]
fn every_error_stands_beside_that_of_the_tensor_as_stored() {
    let dir = dir();
    let json = dir.run(&format!("{LINE} --json")).exits(0).json();
    assert_eq!(json["rotations"], serde_json::json!(["block:32", "quarot"]));
    assert_eq!(json["seed"], "0x0000000000c0ffee");
    let tensors = json["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 16);
    let plain = dir.run("sweep m --types q4_0,q4_sym,q4_asym --json").exits(0).json();
    for (t, own) in tensors.iter().zip(plain["tensors"].as_array().expect("tensors")) {
        assert_eq!((&t["name"], &t["stats"]), (&own["name"], &own["stats"]));
        assert!(t["frames"].as_array().expect("frames").iter().all(|f| f["by_rules"] == true));
        for (e, own) in
            t["encodings"].as_array().expect("rows").iter().zip(own["encodings"].as_array().expect("rows"))
        {
            assert_eq!(
                (&e["encoding"], &e["rmse"], &e["sqnr_db"]),
                (&own["encoding"], &own["rmse"], &own["sqnr_db"])
            );
            let db = |v: &Value| v.as_f64().expect("a number");
            let rotated = e["rotated"].as_array().expect("rotated");
            assert_eq!(rotated.len(), 2);
            let gained = |r: &Value| db(&r["sqnr_db"]) - db(&e["sqnr_db"]);
            assert!(rotated.iter().all(|r| (db(&r["gain_db"]) - gained(r)).abs() < 1e-9));
            assert!((0.05..0.15).contains(&db(&e["floor"])) && (0.05..0.15).contains(&db(&e["predicted"])));
        }
    }
    assert_eq!(json["summary"]["lessons"].as_array().map(Vec::len), Some(2));
    for line in ["--threads 1", "--threads 3 --engine scalar", "--seed 12648430"] {
        assert_eq!(dir.run(&format!("{LINE} --json {line}")).exits(0).json(), json, "{line}");
    }
    assert_ne!(dir.run(&format!("{LINE} --json --seed 7")).exits(0).json()["tensors"], json["tensors"]);
}

#[test]
fn the_table_ends_in_words() {
    let dir = dir();
    let table = dir.run(&format!("{LINE} --format table")).exits(0).out;
    assert!(table.lines().all(|l| l.chars().count() <= 100), "{table}");
    for told in [
        "model.layers.0.mlp.down_proj.weight  BF16 [64, 96], kurtosis",
        "\n  quarot: along rows, kurtosis",
        "\n  quarot: along columns, norm gain folded in, kurtosis",
        "stored values are near Gaussian (median kurtosis ",
        "This does not decide whether the model gains",
    ] {
        let words = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&table).contains(&words(told)), "{told:?}\n{table}");
    }
    let head = "type bpw predicted as stored block:32 dB quarot dB floor";
    assert!(table.lines().any(|l| l.split_whitespace().eq(head.split(' '))), "{table}");
    let tsv = dir.run(&format!("{LINE} --format tsv")).exits(0);
    assert_eq!(tsv.out.lines().count(), 1 + 16 * 3 * 3);
    assert!(tsv.out.lines().all(|l| l.split('\t').count() == 13), "{}", tsv.out);
    assert!(tsv.err.contains("This does not decide whether the model gains"), "{}", tsv.err);
    let sampled = dir.run(&format!("{LINE} --format table --sample 8")).exits(0).out;
    assert!(sampled.contains("\nsampled: about 8 rows of each tensor, or as many weights"), "{sampled}");
}

#[test]
fn without_a_configuration_it_says_what_it_shows() {
    let dir = Dir::with_model();
    let ended =
        dir.run("sweep m.safetensors --types q4_0 --rotate block:32,block:24 --format table").exits(0);
    assert!(
        ended.out.contains("along columns, no family rules: input side, norm gains not folded"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("block:24: nothing: an axis of 64 does not divide into blocks of 24"),
        "{}",
        ended.out
    );
    assert!(ended.err.contains("block:32: no family rules"), "{}", ended.err);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = dir();
    for line in [
        "sweep m --rotate hadamard",
        "sweep m --rotate block:0",
        "sweep m --rotate quarot,quarot",
        "sweep m --rotate quarot --imatrix imatrix.gguf",
        "sweep m --rotate quarot --seed x",
        "sweep m --seed 1",
    ] {
        dir.run(line).exits(2);
    }
}
