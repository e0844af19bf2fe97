"""What is said of a model family: its class and configuration, and what each of its tensors is to a rotation.

A pattern names parameters without `.weight` and `.bias`; `*` is a number (the first one is the layer), `{a,b}` are
alternatives, and `@n` is the axis of the hidden size where that is not the usual one (the last axis of a reader, the
first of a writer). Knows transformers by names only, and imports none of it.
"""

import dataclasses
from dataclasses import field


@dataclasses.dataclass
class Values:
    """Where the values of attention lie: the heads' rows (and biases) in `v`, their columns in `o`."""

    layout: str = "plain"
    v: str = "model.layers.*.self_attn.v_proj"
    o: str = "model.layers.*.self_attn.o_proj"


@dataclasses.dataclass
class Family:
    name: str
    model: str
    config: dict
    # Every norm that stands before something, and what reads it.
    norms: dict
    writers: list
    # In neither list, although some have the hidden size on an axis.
    untouched: list = field(default_factory=list)
    embeddings: list = field(default_factory=lambda: ["model.embed_tokens"])
    head: str = "lm_head"
    # The gain is 1 + w.
    shifted: bool = False
    # The norm subtracts the mean: only a rotation that fixes the vector of ones passes it.
    centred: bool = False
    # Gains on the output of a branch, which no rotation passes.
    blocked: list = field(default_factory=list)
    values: Values | None = field(default_factory=Values)
    # Why the values cannot be rotated, where they cannot.
    gated: str = ""
    # Nested configurations: the key of the text model's.
    text: str = ""
    # Mistakes to be measured, besides those that every family has.
    mistakes: list = field(default_factory=list)
    vision: bool = False
    # Whether its weights are kept in the repository; the rules of every family are.
    kept: bool = False


BASE = "model.layers.*."
ATTENTION = [BASE + "self_attn.{q,k,v}_proj"]
DENSE = [BASE + "mlp.{gate,up}_proj"]
FIRST, SECOND = BASE + "input_layernorm", BASE + "post_attention_layernorm"
OUT, DOWN = BASE + "self_attn.o_proj", BASE + "mlp.down_proj"
QK_NORMS = [BASE + "self_attn.{q,k}_norm"]
# Experts lie one by one on disk, and in one stack where transformers holds them in memory.
EXPERTS = [BASE + "mlp.gate", BASE + "mlp.experts.*.{gate,up}_proj", BASE + "mlp.experts.gate_up_proj@2"]
DOWNS = [BASE + "mlp.experts.*.down_proj", BASE + "mlp.experts.down_proj@1"]
HEAD = {"model.norm": ["lm_head"]}

SMALL = dict(
    vocab_size=64,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
)


def small(**more):
    return {k: v for k, v in {**SMALL, **more}.items() if v is not ...}


def llama(name, model, mlp=DENSE, down=(DOWN,), attention=ATTENTION, before=FIRST, between=SECOND, more=None, **rest):
    """A family with Llama's residual stream; the rest says how it differs."""
    config = small(**(more or {}))
    norms = {before: list(attention), between: list(mlp), **HEAD}
    return Family(name, model, config, norms, [OUT, *down], **rest)


def mla(name, model, more):
    """DeepSeek's latent attention, with one dense layer before one of experts."""
    small_heads = dict(
        q_lora_rank=12,
        kv_lora_rank=10,
        qk_nope_head_dim=6,
        qk_rope_head_dim=2,
        v_head_dim=4,
        first_k_dense_replace=1,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        num_key_value_heads=4,
    )
    family = llama(
        name,
        model,
        attention=[BASE + "self_attn.{q_a_proj,kv_a_proj_with_mqa}"],
        mlp=DENSE + EXPERTS + [BASE + "mlp.shared_experts.{gate,up}_proj"],
        down=[DOWN, *DOWNS, BASE + "mlp.shared_experts.down_proj"],
        untouched=[BASE + "self_attn.{q_a_layernorm,kv_a_layernorm,q_b_proj,kv_b_proj}", BASE + "mlp.gate.e_score_correction"],
        more={**small_heads, **more},
    )
    family.values = Values("mla", BASE + "self_attn.kv_b_proj")
    return family


def gated_delta(prefix, split):
    """Linear attention beside full attention, as Qwen3-Next and Qwen3.5 have it."""
    base = prefix + "layers.*."
    linear = "{in_proj_qkv,in_proj_z,in_proj_b,in_proj_a}" if split else "{in_proj_qkvz,in_proj_ba}"
    reads = [base + "self_attn.{q,k,v}_proj", base + "linear_attn." + linear]
    inner = [base + "linear_attn.{norm,conv1d,A_log,dt_bias}", base + "self_attn.{q,k}_norm"]
    return base, reads, inner


def qwen3_next():
    base, reads, inner = gated_delta("model.", False)
    mlp = EXPERTS + [base + "mlp.shared_expert.{gate,up}_proj", base + "mlp.shared_expert_gate"]
    more = dict(
        head_dim=4,
        linear_key_head_dim=6,
        linear_value_head_dim=6,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=12,
        layer_types=["linear_attention", "full_attention"],
    )
    return Family(
        "qwen3_next",
        "Qwen3NextForCausalLM",
        small(**more),
        {FIRST: reads, SECOND: mlp, **HEAD},
        [OUT, base + "linear_attn.out_proj", *DOWNS, base + "mlp.shared_expert.down_proj"],
        inner,
        shifted=True,
        values=Values(),
        gated="a sigmoid gate on each channel of the attention's output",
        mistakes=["plain_gains", "router_missed", "shared_gate_missed", "inner_norm_folded"],
    )


def qwen3_5(name, experts, tied):
    """With its vision tower, whose merger writes the stream."""
    base, reads, inner = gated_delta("model.language_model.", True)
    prefix, mlp, downs = "model.language_model.", [base + "mlp.{gate,up}_proj"], [base + "mlp.down_proj"]
    text = small(
        head_dim=4,
        linear_key_head_dim=6,
        linear_value_head_dim=6,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        tie_word_embeddings=tied,
        layer_types=["linear_attention", "full_attention"],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [1, 1, 0],
            "mrope_interleaved": True,
        },
    )
    if experts:
        text.update(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=12)
        mlp = [
            base + "mlp.gate",
            base + "mlp.experts.gate_up_proj@2",
            base + "mlp.experts.*.{gate,up}_proj",
            base + "mlp.shared_expert.{gate,up}_proj",
            base + "mlp.shared_expert_gate",
        ]
        downs = [base + "mlp.experts.down_proj@1", base + "mlp.experts.*.down_proj", base + "mlp.shared_expert.down_proj"]
    vision = dict(
        depth=1,
        hidden_size=8,
        intermediate_size=12,
        num_heads=2,
        in_channels=3,
        patch_size=2,
        spatial_merge_size=2,
        temporal_patch_size=1,
        out_hidden_size=24,
        num_position_embeddings=16,
    )
    config = dict(
        text_config=text,
        vision_config=vision,
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
        tie_word_embeddings=tied,
    )
    merger = "model.visual.merger."
    return Family(
        name,
        "Qwen3_5MoeForConditionalGeneration" if experts else "Qwen3_5ForConditionalGeneration",
        config,
        {base + "input_layernorm": reads, base + "post_attention_layernorm": mlp, prefix + "norm": ["lm_head"]},
        [base + "self_attn.o_proj", base + "linear_attn.out_proj", *downs, merger + "linear_fc2"],
        inner
        + [
            merger + "{norm,linear_fc1}",
            "model.visual.patch_embed.proj",
            "model.visual.pos_embed",
            "model.visual.blocks.*.{norm1,norm2,attn.qkv,attn.proj,mlp.linear_fc1,mlp.linear_fc2}",
        ],
        embeddings=[prefix + "embed_tokens"],
        shifted=True,
        text="text_config",
        vision=True,
        values=Values("plain", base + "self_attn.v_proj", base + "self_attn.o_proj"),
        gated="a sigmoid gate on each channel of the attention's output",
        mistakes=["plain_gains", "inner_norm_folded", "vision_missed"] + (["head_left_tied"] if tied else []),
    )


def gemma(name, model, after, more):
    """Gemma 2 and later: norms after the branches as well."""
    return llama(
        name,
        model,
        between=after,
        more=dict(head_dim=4, tie_word_embeddings=True, **more),
        shifted=True,
        untouched=QK_NORMS if name == "gemma3" else [],
        blocked=[SECOND, BASE + "post_feedforward_layernorm"],
    )


def post_norm(name, model, more):
    """No norm before the branches, only after them."""
    family = llama(name, model, untouched=QK_NORMS, more=more, blocked=[SECOND, BASE + "post_feedforward_layernorm"])
    family.norms = {"": ATTENTION + DENSE, **HEAD}
    return family


# Where the width of a head is the hidden size over the heads.
SQUARE = dict(num_attention_heads=6, num_key_value_heads=3)
MOE = dict(head_dim=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12)
