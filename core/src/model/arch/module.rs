//! What a tensor is in a model, and its GGUF name: the modules of llama.cpp's `MODEL_TENSOR`.
//!
//! Knows no architecture and no Hugging Face name. Source: `gguf-py/gguf/constants.py` of llama.cpp.

/// Declares [`Module`] with the GGUF names of each variant: `blk.x` stands for `blk.N.x`.
macro_rules! modules {
    ($($(#[$doc:meta])* $name:ident $gguf:expr;)*) => {
        /// What a tensor is. A GGUF stores one tensor for each GGUF name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Module {
            $($(#[$doc])* $name,)*
        }

        impl Module {
            /// All modules.
            pub const ALL: &'static [Module] = &[$(Module::$name,)*];

            /// The GGUF names without layer number and part; several where the converter splits the tensor, none
            /// where a GGUF has no such tensor.
            pub const fn gguf(self) -> &'static [&'static str] {
                match self {
                    $(Module::$name => &$gguf,)*
                }
            }
        }
    };
}

modules! {
    /// Token embeddings.
    TokenEmbd ["token_embd"];
    /// Norm of the embeddings.
    TokenEmbdNorm ["token_embd_norm"];
    /// Table of positions.
    PosEmbd ["position_embd"];
    /// Table of token types.
    TokenTypes ["token_types"];
    /// Token embeddings of each layer (Gemma 4).
    PerLayerTokenEmbd ["per_layer_token_embd"];
    /// Projection of the stream to the inputs of all layers.
    PerLayerModelProj ["per_layer_model_proj"];
    /// Norm of these inputs.
    PerLayerProjNorm ["per_layer_proj_norm"];
    /// Factors of the rotary frequencies.
    RopeFreqs ["rope_freqs"];
    /// The same for long contexts.
    RopeFactorsLong ["rope_factors_long"];
    /// The same for short contexts.
    RopeFactorsShort ["rope_factors_short"];
    /// Norm before the output head.
    OutputNorm ["output_norm"];
    /// Output head.
    Output ["output"];
    /// Norm before attention.
    AttnNorm ["blk.attn_norm"];
    /// Second norm before the branches, of attention (Falcon).
    AttnNorm2 ["blk.attn_norm_2"];
    /// Query projection.
    AttnQ ["blk.attn_q"];
    /// Key projection.
    AttnK ["blk.attn_k"];
    /// Value projection.
    AttnV ["blk.attn_v"];
    /// Query, key and value projections in one matrix.
    AttnQkv ["blk.attn_qkv"];
    /// Output projection of attention.
    AttnOutput ["blk.attn_output"];
    /// Norm of queries.
    AttnQNorm ["blk.attn_q_norm"];
    /// Norm of keys.
    AttnKNorm ["blk.attn_k_norm"];
    /// Projection to the latent vector of queries.
    AttnQA ["blk.attn_q_a"];
    /// Queries from their latent vector.
    AttnQB ["blk.attn_q_b"];
    /// Norm of the latent vector of queries.
    AttnQANorm ["blk.attn_q_a_norm"];
    /// Projection to the latent vector of keys and values.
    AttnKvA ["blk.attn_kv_a_mqa"];
    /// Norm of the latent vector of keys and values.
    AttnKvANorm ["blk.attn_kv_a_norm"];
    /// Keys and values from their latent vector.
    AttnKvB ["blk.attn_kv_b"];
    /// Keys from their latent vector.
    AttnKB ["blk.attn_k_b"];
    /// Values from their latent vector.
    AttnVB ["blk.attn_v_b"];
    /// Scores of the attention sinks.
    AttnSinks ["blk.attn_sinks"];
    /// Gate of the output of linear attention.
    AttnGate ["blk.attn_gate"];
    /// Attention mask stored as a tensor.
    AttnMask [];
    /// Norm of the attention's output, after the residual sum (BERT).
    AttnOutputNorm ["blk.attn_output_norm"];
    /// Norm of what attention adds to the stream.
    AttnPostNorm ["blk.post_attention_norm"];
    /// Norm before the feed-forward part.
    FfnNorm ["blk.ffn_norm"];
    /// Norm of what the feed-forward part adds to the stream.
    FfnPostNorm ["blk.post_ffw_norm"];
    /// Gate projection.
    FfnGate ["blk.ffn_gate"];
    /// Up projection, also with the gate in one matrix.
    FfnUp ["blk.ffn_up"];
    /// Down projection.
    FfnDown ["blk.ffn_down"];
    /// Router of the experts.
    FfnGateInp ["blk.ffn_gate_inp"];
    /// Gate projections of the experts.
    FfnGateExps ["blk.ffn_gate_exps"];
    /// Up projections of the experts.
    FfnUpExps ["blk.ffn_up_exps"];
    /// Down projections of the experts.
    FfnDownExps ["blk.ffn_down_exps"];
    /// Gate and up projections of the experts in one tensor.
    FfnGateUpExps ["blk.ffn_gate_exps", "blk.ffn_up_exps"];
    /// Gate of the shared expert.
    FfnGateInpShexp ["blk.ffn_gate_inp_shexp"];
    /// Gate projection of the shared expert.
    FfnGateShexp ["blk.ffn_gate_shexp"];
    /// Up projection of the shared expert.
    FfnUpShexp ["blk.ffn_up_shexp"];
    /// Down projection of the shared expert.
    FfnDownShexp ["blk.ffn_down_shexp"];
    /// Gate and up projections of the shared expert in one matrix.
    FfnGateUpShexp ["blk.ffn_gate_shexp", "blk.ffn_up_shexp"];
    /// Correction of the router's scores.
    ExpProbsB ["blk.exp_probs_b"];
    /// Norm of the layer's output (BERT).
    LayerOutputNorm ["blk.layer_output_norm"];
    /// Factor of the layer's output.
    LayerOutputScale ["blk.layer_output_scale"];
    /// Gate of the layer's own input.
    PerLayerInpGate ["blk.inp_gate"];
    /// Projection of the layer's own input.
    PerLayerProj ["blk.proj"];
    /// Norm of that projection.
    PerLayerPostNorm ["blk.post_norm"];
    /// Kernel of a short convolution.
    ShortConv ["blk.shortconv.conv"];
    /// Input projection of a short convolution.
    ShortConvIn ["blk.shortconv.in_proj"];
    /// Output projection of a short convolution.
    ShortConvOut ["blk.shortconv.out_proj"];
    /// Input projection of a state-space layer.
    SsmIn ["blk.ssm_in"];
    /// Convolution kernel of a state-space or linear-attention layer.
    SsmConv1d ["blk.ssm_conv1d"];
    /// Decay rates.
    SsmA ["blk.ssm_a"];
    /// Skip factors.
    SsmD ["blk.ssm_d"];
    /// Time steps.
    SsmDt ["blk.ssm_dt"];
    /// Norm inside a state-space or linear-attention layer.
    SsmNorm ["blk.ssm_norm"];
    /// Output projection of a state-space or linear-attention layer.
    SsmOut ["blk.ssm_out"];
    /// Strengths and decays in one matrix.
    SsmBa ["blk.ssm_ba"];
    /// Strengths of linear attention.
    SsmBeta ["blk.ssm_beta"];
    /// Decays of linear attention.
    SsmAlpha ["blk.ssm_alpha"];
    /// Queries, keys, values and gates of linear attention in one matrix.
    SsmQkvz ["blk.attn_qkv", "blk.attn_gate"];
    /// Token predictor: projection of embedding and stream.
    NextnEhProj ["blk.nextn.eh_proj"];
    /// Token predictor: embeddings.
    NextnEmbedTokens ["blk.nextn.embed_tokens"];
    /// Token predictor: norm of the embedding.
    NextnEnorm ["blk.nextn.enorm"];
    /// Token predictor: norm of the stream.
    NextnHnorm ["blk.nextn.hnorm"];
    /// Token predictor: output head.
    NextnHead ["blk.nextn.shared_head_head"];
    /// Token predictor: norm before the head.
    NextnHeadNorm ["blk.nextn.shared_head_norm"];
    /// Encoder: norm before attention.
    EncAttnNorm ["enc.blk.attn_norm"];
    /// Encoder: query projection.
    EncAttnQ ["enc.blk.attn_q"];
    /// Encoder: key projection.
    EncAttnK ["enc.blk.attn_k"];
    /// Encoder: value projection.
    EncAttnV ["enc.blk.attn_v"];
    /// Encoder: output projection of attention.
    EncAttnOut ["enc.blk.attn_o"];
    /// Encoder: relative positions.
    EncAttnRelB ["enc.blk.attn_rel_b"];
    /// Encoder: norm before the feed-forward part.
    EncFfnNorm ["enc.blk.ffn_norm"];
    /// Encoder: gate projection.
    EncFfnGate ["enc.blk.ffn_gate"];
    /// Encoder: up projection.
    EncFfnUp ["enc.blk.ffn_up"];
    /// Encoder: down projection.
    EncFfnDown ["enc.blk.ffn_down"];
    /// Encoder: last norm.
    EncOutputNorm ["enc.output_norm"];
    /// Decoder: norm before attention.
    DecAttnNorm ["dec.blk.attn_norm"];
    /// Decoder: query projection.
    DecAttnQ ["dec.blk.attn_q"];
    /// Decoder: key projection.
    DecAttnK ["dec.blk.attn_k"];
    /// Decoder: value projection.
    DecAttnV ["dec.blk.attn_v"];
    /// Decoder: output projection of attention.
    DecAttnOut ["dec.blk.attn_o"];
    /// Decoder: relative positions.
    DecAttnRelB ["dec.blk.attn_rel_b"];
    /// Decoder: norm before cross-attention.
    DecCrossAttnNorm ["dec.blk.cross_attn_norm"];
    /// Decoder: query projection of cross-attention.
    DecCrossAttnQ ["dec.blk.cross_attn_q"];
    /// Decoder: key projection of cross-attention.
    DecCrossAttnK ["dec.blk.cross_attn_k"];
    /// Decoder: value projection of cross-attention.
    DecCrossAttnV ["dec.blk.cross_attn_v"];
    /// Decoder: output projection of cross-attention.
    DecCrossAttnOut ["dec.blk.cross_attn_o"];
    /// Decoder: norm before the feed-forward part.
    DecFfnNorm ["dec.blk.ffn_norm"];
    /// Decoder: gate projection.
    DecFfnGate ["dec.blk.ffn_gate"];
    /// Decoder: up projection.
    DecFfnUp ["dec.blk.ffn_up"];
    /// Decoder: down projection.
    DecFfnDown ["dec.blk.ffn_down"];
    /// Decoder: last norm.
    DecOutputNorm ["dec.output_norm"];
    /// Part of a vision tower.
    Vision [];
}

impl Module {
    /// Whether it is a normalisation.
    pub const fn is_norm(self) -> bool {
        use Module as M;
        let ends = matches!(self, M::TokenEmbdNorm | M::OutputNorm | M::EncOutputNorm | M::DecOutputNorm);
        let attention = matches!(self, M::AttnNorm | M::AttnNorm2 | M::AttnOutputNorm | M::AttnPostNorm)
            || matches!(self, M::AttnQNorm | M::AttnKNorm | M::AttnQANorm | M::AttnKvANorm)
            || matches!(self, M::EncAttnNorm | M::DecAttnNorm | M::DecCrossAttnNorm);
        let layer = matches!(self, M::FfnNorm | M::FfnPostNorm | M::EncFfnNorm | M::DecFfnNorm)
            || matches!(self, M::LayerOutputNorm | M::PerLayerProjNorm | M::PerLayerPostNorm | M::SsmNorm);
        ends || attention || layer || matches!(self, M::NextnEnorm | M::NextnHnorm | M::NextnHeadNorm)
    }

    /// Whether it is a projection of the shared expert, which is the whole feed-forward part of a Granite without others.
    pub const fn is_shared_expert(self) -> bool {
        matches!(self, Module::FfnGateUpShexp | Module::FfnDownShexp)
    }

    /// The GGUF name that stands for the tensor in recipes and importance matrices: of a gate with an up projection the
    /// latter, else the first.
    pub fn primary(self, gguf: &'static [&'static str]) -> Option<&'static str> {
        match self {
            Module::FfnGateUpExps | Module::FfnGateUpShexp => gguf.last().copied(),
            _ => gguf.first().copied(),
        }
    }
}
