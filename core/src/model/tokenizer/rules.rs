//! Tokenizer rules of an architecture: which files it reads, and keys that do not follow from them.

/// Tokenizer rules of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenizerRules {
    /// The files that are read, and the model that is written.
    pub layout: TokenizerLayout,
    /// Special ids that are found by the text of an added token, unless found otherwise: kind and text.
    pub by_text: &'static [(&'static str, &'static str)],
    /// Special ids that are written last whatever the files contain: kind and id.
    pub fixed: &'static [(&'static str, u32)],
    /// `tokenizer.ggml.add_space_prefix`.
    pub space_prefix: SpacePrefix,
    /// `tokenizer.ggml.add_bos_token` before all other keys.
    pub add_bos_first: Option<bool>,
    /// The vocabulary is padded to a multiple of `pad_vocab_size_multiple`, by default of this.
    pub pad_multiple: Option<u64>,
    /// The first EOS of `generation_config.json` is written as EOT.
    pub eot_of_generation: bool,
    /// Names of the pre-tokenizer to prefer among those that split text alike.
    pub pre: &'static [&'static str],
}

/// The files that an architecture's tokenizer is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerLayout {
    /// `tokenizer.json`, or `vocab.json` with `merges.txt`: byte-level BPE.
    Bpe,
    /// `tekken.json`, `tokenizer.model`, its form in `tokenizer.json`, or byte-level BPE: the first that is there.
    Llama,
    /// `tokenizer.model`.
    SentencePiece,
    /// `tokenizer.model`, or byte-level BPE.
    SentencePieceOrBpe,
    /// The form of a SentencePiece model in `tokenizer.json`, with merges: model `gemma4`.
    Gemma4,
    /// `tokenizer.model` with the added tokens of `tokenizer.json`; byte-level BPE if the configuration has it.
    Phi3,
    /// WordPiece; byte-level BPE or Unigram where the files have that.
    Bert,
    /// `tokenizer.model` or `spiece.model`: Unigram.
    T5,
}

/// Where `add_space_prefix` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePrefix {
    /// It is not written.
    Absent,
    /// `add_prefix_space` of the tokenizer's configuration, before all other keys.
    ConfiguredFirst,
    /// The same, after all other keys.
    ConfiguredLast,
    /// False, after all other keys.
    False,
}

/// Byte-level BPE without further rules.
pub const BPE: TokenizerRules = TokenizerRules {
    layout: TokenizerLayout::Bpe,
    by_text: &[],
    fixed: &[],
    space_prefix: SpacePrefix::Absent,
    add_bos_first: None,
    pad_multiple: None,
    eot_of_generation: false,
    pre: &[],
};

/// Llama, Mistral, Mixtral, Granite, SmolLM3, Ministral.
pub const LLAMA: TokenizerRules = TokenizerRules {
    layout: TokenizerLayout::Llama,
    space_prefix: SpacePrefix::ConfiguredFirst,
    pre: &["llama-bpe", "tekken", "smaug-bpe", "refact", "smollm"],
    ..BPE
};

/// Gemma 2, Gemma embeddings.
pub const GEMMA: TokenizerRules =
    TokenizerRules { layout: TokenizerLayout::SentencePiece, space_prefix: SpacePrefix::False, ..BPE };

/// Gemma 1, which has the EOT of CodeGemma.
pub const GEMMA1: TokenizerRules = TokenizerRules { fixed: &[("eot", 107)], ..GEMMA };

/// Gemma 3.
pub const GEMMA3: TokenizerRules =
    TokenizerRules { layout: TokenizerLayout::SentencePieceOrBpe, pre: &["gemma4"], ..GEMMA };

/// Gemma 4.
pub const GEMMA4: TokenizerRules = TokenizerRules { layout: TokenizerLayout::Gemma4, ..GEMMA };

/// ERNIE 4.5.
pub const ERNIE: TokenizerRules = TokenizerRules {
    layout: TokenizerLayout::SentencePiece,
    space_prefix: SpacePrefix::ConfiguredLast,
    ..BPE
};

/// Nemotron.
pub const NEMOTRON: TokenizerRules =
    TokenizerRules { layout: TokenizerLayout::SentencePiece, fixed: &[("pad", 0), ("unk", 1)], ..BPE };

/// Phi-3, Phi-3.5-MoE.
pub const PHI3: TokenizerRules =
    TokenizerRules { layout: TokenizerLayout::Phi3, pre: &["gpt-4o", "dbrx"], ..BPE };

/// Phi-2.
pub const PHI2: TokenizerRules = TokenizerRules { add_bos_first: Some(false), pre: &["phi-2"], ..BPE };

/// BERT and its relatives.
pub const BERT: TokenizerRules =
    TokenizerRules { layout: TokenizerLayout::Bert, pre: &["roberta-bpe"], ..BPE };

/// T5.
pub const T5: TokenizerRules = TokenizerRules { layout: TokenizerLayout::T5, ..BPE };

/// MiniCPM.
pub const SENTENCEPIECE: TokenizerRules = TokenizerRules { layout: TokenizerLayout::SentencePiece, ..BPE };

/// openPangu.
pub const PANGU: TokenizerRules =
    TokenizerRules { space_prefix: SpacePrefix::ConfiguredLast, ..SENTENCEPIECE };

/// GLM-4.
pub const GLM4: TokenizerRules = TokenizerRules {
    by_text: &[("eos", ENDOFTEXT), ("eot", "<|user|>"), ("unk", ENDOFTEXT), ("bos", ENDOFTEXT)],
    pre: &["glm4"],
    ..BPE
};

/// GLM-4.5, GLM-4.7.
pub const GLM4_MOE: TokenizerRules = TokenizerRules {
    by_text: &[
        ("eos", ENDOFTEXT),
        ("eot", "<|user|>"),
        ("unk", ENDOFTEXT),
        ("bos", "[gMASK]"),
        ("eom", "<|observation|>"),
    ],
    ..GLM4
};
const ENDOFTEXT: &str = "<|endoftext|>";

/// Hunyuan.
pub const HUNYUAN: TokenizerRules =
    TokenizerRules { eot_of_generation: true, pre: &["hunyuan-dense", "hunyuan"], ..BPE };

/// Mamba-2.
pub const MAMBA2: TokenizerRules = TokenizerRules { pad_multiple: Some(16), ..BPE };

/// Granite with Mamba-2 layers.
pub const GRANITE_HYBRID: TokenizerRules = TokenizerRules { pad_multiple: Some(8), pre: &["refact"], ..BPE };

/// DeepSeek V2, V3.
pub const DEEPSEEK: TokenizerRules = TokenizerRules { pre: &["deepseek-v3", "deepseek-llm"], ..BPE };

/// gpt-oss.
pub const GPT_OSS: TokenizerRules = TokenizerRules { pre: &["gpt-4o"], ..BPE };
