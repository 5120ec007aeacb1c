#!/usr/bin/env python3
"""What Hugging Face transformers answers, in double precision: the oracle of the parity tests.

For the project's developers only; building, testing and using Arrakis need no Python beyond set-up.
Needs torch==2.11.0, transformers==5.23.0 and safetensors (other versions run, but are not what `tests/golden` was made with).

    python scripts/reference.py answer MODEL --out reference.safetensors [--prompt TEXT | --tokens '1,2,3;4,5,6'] [--seed N]
        The answers for a checkpoint folder or hub id; read them with `arrakis parity MODEL reference.safetensors`.
        Without prompt or tokens, two rows of 24 random tokens. The rows of `--tokens` are equally long.

    python scripts/reference.py golden --out tests/golden [--only NAME]
        The seeded tiny models of `tests/golden` with their answers, and its README.md.

    python scripts/reference.py check FOLDER ..
        Computes the answers of each folder's reference.safetensors again and prints the largest differences;
        exit status 1 if a float64 one is above 1e-12 or if config.json and config.v5.json are different models.

A reference file holds, for CASE `plain`, `leftpad` (row 1 padded on the left) and `rightpad` (row 0 padded on the right):

    CASE.input_ids, CASE.attention_mask, CASE.position_ids    [batch, pos]; positions count the real tokens
    CASE.f64.logits, CASE.f32.logits                          [batch, pos, vocab]
    CASE.f64.hidden_states.I, CASE.f32.hidden_states.I        [batch, pos, d_model]; the last one is after the final norm
    CASE.f64.final_norm_input                                 [batch, pos, d_model]
    CASE.f64.attentions.I                                     [batch, head, query, key], after the softmax
    leftpad_defaultpos.f64.logits                             learned positions only: the leftpad case at positions 0, 1, ..
    plain.f64.loss                                            mean next-token cross entropy, nats
    plain.greedy_ids, plain.greedy_min_margin                 up to 10 tokens of `plain` and 8 greedy ones; smallest top-1 minus
                                                              top-2 logit met on the way

`f64` is the library's own code in double throughout (softmax, norms and rotary angles too), `f32` is that code as it is.
"""
import argparse, contextlib, datetime, json, pathlib, re, sys, zlib

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
torch.set_grad_enabled(False)

SEED, ROW = 19, 10
REAL_F32 = torch.float32
GREEDY_PREFIX, GREEDY_TOKENS = 10, 8
LEARNED_POSITIONS = ("gpt2", "gpt_neo")


@contextlib.contextmanager
def double():
    """Turns every request for float32 inside into one for float64, so that no upcast of the library loses digits."""
    names = {"float32": torch.float32, "float": torch.float}
    to_float = torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        for name, dtype in names.items():
            setattr(torch, name, dtype)
        torch.Tensor.float = to_float
        torch.set_default_dtype(REAL_F32)


def load(model, dtype):
    """A checkpoint in `dtype`, its weights cast from the stored ones, with explicit (eager) attention."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation="eager").eval()
    if dtype == torch.float64:
        rotary = [(name, module) for name, module in loaded.named_modules() if hasattr(module, "original_inv_freq")]
        with double():
            for name, module in rotary:
                loaded.set_submodule(name, type(module)(loaded.config))
    wrong = {name for name, t in [*loaded.named_parameters(), *loaded.named_buffers()]
             if t.is_floating_point() and t.dtype != dtype}
    if wrong:
        sys.exit(f"not in {dtype}: {sorted(wrong)}")
    return loaded


def final_norm(model):
    return next(getattr(model.base_model, n) for n in ("ln_f", "final_layer_norm", "norm") if hasattr(model.base_model, n))


def forward(model, case, positions=True):
    """One pass from a fresh state: hidden states, attentions, logits and what enters the final norm."""
    for module in model.modules():
        if hasattr(module, "max_seq_len_cached"):   # dynamic rope remembers the longest prompt it saw
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq.clone()
    seen = []
    handle = final_norm(model).register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    given = {k: v for k, v in case.items() if positions or k != "position_ids"}
    out = model(**given, output_hidden_states=True, output_attentions=True, use_cache=False)
    handle.remove()
    return out, seen[0]


def case_of(ids, mask=None):
    mask = torch.ones_like(ids) if mask is None else mask
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def cases_of(ids, pad):
    """The plain case and, where a row has two tokens or more, the two padded ones."""
    cases = {"plain": case_of(ids)}
    length = ids.shape[1]
    rows = ids if len(ids) > 1 else ids.repeat(2, 1)
    for name, row, n in (("leftpad", 1, length // 3), ("rightpad", 0, length // 4)):
        n = max(1, n)
        if length < 2:
            break
        padded, mask = rows.clone(), torch.ones_like(rows)
        here, real = (slice(0, n), slice(n, None)) if name == "leftpad" else (slice(length - n, None), slice(0, length - n))
        padded[row, here], mask[row, here] = pad, 0
        padded[row, real] = rows[row, : length - n]
        cases[name] = case_of(padded, mask)
    return cases


def greedy(model, ids):
    """The greedy continuation without a key-value cache, and the smallest gap between the two best logits."""
    ids, gap = ids[:, :GREEDY_PREFIX], float("inf")
    learned = model.config.model_type in LEARNED_POSITIONS
    room = model.config.max_position_embeddings - ids.shape[1] if learned else GREEDY_TOKENS
    for _ in range(min(GREEDY_TOKENS, room)):
        best = forward(model, case_of(ids))[0].logits[:, -1].topk(2)
        gap = min(gap, (best.values[:, 0] - best.values[:, 1]).min().item())
        ids = torch.cat([ids, best.indices[:, :1]], 1)
    return ids, torch.tensor(gap, dtype=torch.float64)


def answers(model, cases):
    """Every tensor of a reference file, and its metadata."""
    out = {f"{case}.{name}": t for case, tensors in cases.items() for name, t in tensors.items()}
    exact = load(model, torch.float64)
    with double():
        for name, case in cases.items():
            result, before_norm = forward(exact, case)
            out[f"{name}.f64.logits"] = result.logits
            out[f"{name}.f64.final_norm_input"] = before_norm
            for kind in ("hidden_states", "attentions"):
                out |= {f"{name}.f64.{kind}.{i}": t for i, t in enumerate(result[kind])}
        if exact.config.model_type in LEARNED_POSITIONS and "leftpad" in cases:
            out["leftpad_defaultpos.f64.logits"] = forward(exact, cases["leftpad"], positions=False)[0].logits
        ids = cases["plain"]["input_ids"]
        logits = out["plain.f64.logits"]
        if ids.shape[1] > 1:
            out["plain.f64.loss"] = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        out["plain.greedy_ids"], out["plain.greedy_min_margin"] = greedy(exact, ids)
    del exact
    single = load(model, torch.float32)
    logits_off, attentions_off = 0.0, 0.0
    for name, case in cases.items():
        result, _ = forward(single, case)
        out[f"{name}.f32.logits"] = result.logits
        out |= {f"{name}.f32.hidden_states.{i}": t for i, t in enumerate(result.hidden_states)}
        real = case["attention_mask"].bool()
        logits_off = max(logits_off, (result.logits - out[f"{name}.f64.logits"])[real].abs().max().item())
        for i, t in enumerate(result.attentions):
            off = (t - out[f"{name}.f64.attentions.{i}"]).abs().amax((1, 3))
            attentions_off = max(attentions_off, off[real].max().item())
    metadata = {"family": single.config.model_type.replace("_", "-"), "torch": torch.__version__,
                "transformers": transformers.__version__, "max_abs_logit_diff_f32_f64": f"{logits_off:.3e}",
                "max_abs_attention_diff_f32_f64": f"{attentions_off:.3e}"}
    return out, metadata


def save(tensors, metadata, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    save_file({k: t.clone().contiguous() for k, t in tensors.items()}, partial, metadata)
    partial.replace(path)


# What a reference file of the golden set keeps: everything a main variant can answer, less of its relatives.
CASE_INPUTS = r"(input_ids|attention_mask|position_ids)"
DETAIL = {
    "main": r"plain\.(?!f32\.hidden).*|leftpad.*f64\.(logits|hidden_states.*)|rightpad\.f64\.logits|\w+pad\." + CASE_INPUTS,
    "lesser": r"plain\.f64\.(logits|hidden_states.*|attentions.*)|leftpad\.f64\.logits|(plain|leftpad)\." + CASE_INPUTS,
    "logits": r"plain\.f64\.logits|plain\." + CASE_INPUTS,
}

GPT2 = dict(vocab_size=61, n_positions=24, n_embd=16, n_head=2, n_layer=2)
NEO = dict(vocab_size=61, max_position_embeddings=24, hidden_size=16, num_heads=2, num_layers=2, window_size=4)
ROPED = dict(vocab_size=61, max_position_embeddings=64, hidden_size=16, intermediate_size=20, num_attention_heads=2,
             num_hidden_layers=2)
NEOX = dict(ROPED, num_attention_heads=2, layer_norm_eps=1e-5)
GROUPED = dict(ROPED, num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=False)
STABLE = dict(ROPED, num_key_value_heads=1, layer_norm_eps=1e-5, tie_word_embeddings=False)
PHI3 = dict(GROUPED, pad_token_id=0, original_max_position_embeddings=64, sliding_window=None)


def rope(kind="default", theta=10000.0, **rest):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **rest}}


# name: (model type, detail, config in the words of transformers 5, storage)
VARIANTS = {
    "gpt2": ("gpt2", "main", dict(GPT2, n_embd=24, n_head=4), {}),
    "gpt2-untied": ("gpt2", "lesser", dict(GPT2, n_inner=20, layer_norm_epsilon=1e-3, activation_function="gelu",
                                           tie_word_embeddings=False), {}),
    "gpt2-invlayer": ("gpt2", "logits", dict(GPT2, scale_attn_by_inverse_layer_idx=True, activation_function="relu"), {}),
    "gpt2-sharded": ("gpt2", "logits", GPT2, {"shard": "9KB"}),
    "gpt2-tied-and-stored": ("gpt2", "logits", GPT2, {"head": True}),
    "gpt2-bin-legacy": ("gpt2", "logits", GPT2, {"bin": "legacy"}),
    "llama": ("llama", "main", dict(GROUPED, hidden_size=24, intermediate_size=28, num_attention_heads=4,
                                    num_key_value_heads=2, **rope()), {}),
    "llama-tied-llama3": ("llama", "lesser", dict(GROUPED, head_dim=12, rms_norm_eps=1e-3, tie_word_embeddings=True, **rope(
        "llama3", 5000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)), {}),
    "llama-rope-linear": ("llama", "logits", dict(GROUPED, **rope("linear", factor=2.5)), {}),
    "llama-rope-dynamic": ("llama", "lesser", dict(GROUPED, max_position_embeddings=8, **rope("dynamic", factor=2.5)), {}),
    "llama-rope-yarn": ("llama", "lesser", dict(GROUPED, max_position_embeddings=40, **rope("yarn", factor=2.5, original_max_position_embeddings=16)), {}),
    "llama-bias": ("llama", "logits", dict(GROUPED, attention_bias=True, mlp_bias=True, **rope()), {}),
    "llama-bin": ("llama", "logits", dict(GROUPED, **rope()), {"bin": "zip"}),
    "llama-bf16": ("llama", "logits", dict(GROUPED, **rope()), {"dtype": torch.bfloat16}),
    "gpt-neo": ("gpt_neo", "lesser", dict(NEO, attention_types=[[["global", "local"], 1]]), {}),
    "gpt-neox": ("gpt_neox", "lesser", dict(NEOX, **rope(partial_rotary_factor=0.5)), {}),
    "gpt-neox-serial": ("gpt_neox", "lesser", dict(NEOX, use_parallel_residual=False, **rope(
        theta=5000.0, partial_rotary_factor=0.25)), {}),
    "gemma": ("gemma", "lesser", dict(GROUPED, head_dim=12, tie_word_embeddings=True, pad_token_id=0, **rope()), {}),
    "phi3-partial-tied": ("phi3", "lesser", dict(PHI3, tie_word_embeddings=True, **rope(partial_rotary_factor=0.75)), {}),
    "phi3-longrope": ("phi3", "lesser", dict(PHI3, original_max_position_embeddings=8, **rope(
        "longrope", partial_rotary_factor=1.0, short_factor=[1.0, 1.2, 1.5, 2.0], long_factor=[1.0, 2.7, 6.1, 12.9],
        original_max_position_embeddings=8)), {}),
    "qwen2": ("qwen2", "lesser", dict(GROUPED, tie_word_embeddings=True, **rope()), {}),
    "qwen2-window": ("qwen2", "lesser", dict(GROUPED, use_sliding_window=True, sliding_window=4, max_window_layers=1,
                                             **rope()), {}),
    "mistral": ("mistral", "lesser", dict(GROUPED, head_dim=12, sliding_window=4, **rope()), {}),
    "stablelm": ("stablelm", "lesser", dict(STABLE, use_qkv_bias=False, **rope(partial_rotary_factor=0.25)), {}),
    "stablelm-parallel": ("stablelm", "lesser", dict(STABLE, use_qkv_bias=True, qk_layernorm=True, use_parallel_residual=True,
                                                     **rope(theta=5000.0, partial_rotary_factor=0.5)), {}),
}


def hub_spelling(v5):
    """A transformers-5 config in the words that the hub's configs use (those of transformers 4)."""
    new = ("layer_types", "add_cross_attention", "is_decoder", "dtype", "classifier_dropout", "use_bidirectional_attention")
    config = {k: v for k, v in v5.items() if k not in new}
    config |= {"torch_dtype": v5["dtype"], "transformers_version": "4.44.0"}
    kind = v5["model_type"]
    if kind == "gpt2":
        config["n_ctx"] = v5["n_positions"]
    if kind in ("gpt2", "gpt_neo", "gemma") and v5["tie_word_embeddings"]:
        del config["tie_word_embeddings"]
    if kind in ("llama", "mistral") and v5["head_dim"] == v5["hidden_size"] // v5["num_attention_heads"]:
        del config["head_dim"]
    scaling = dict(config.pop("rope_parameters", None) or {})
    if scaling:
        theta, part, rope_type = scaling.pop("rope_theta"), scaling.pop("partial_rotary_factor", None), scaling.pop("rope_type")
        old = kind == "gpt_neox"
        config["rotary_emb_base" if old else "rope_theta"] = int(theta) if old else theta
        if part is not None and not (kind == "phi3" and part == 1.0):
            config["rotary_pct" if old else "partial_rotary_factor"] = part
        if rope_type == "longrope":
            del scaling["original_max_position_embeddings"]
        word = "rope_type" if rope_type in ("llama3", "yarn") else "type"
        config["rope_scaling"] = None if rope_type == "default" else {word: rope_type, **scaling}
    return dict(sorted(config.items()))


def randomise(model, generator):
    """Fills every parameter so that no norm weight is 1 (0 in Gemma), no bias is 0 and attention is not flat."""
    centre = 0.0 if model.config.model_type == "gemma" else 1.0
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("bias"):
            p.copy_(0.3 * noise)
        elif p.dim() == 1:
            p.copy_(centre + 0.3 * noise)
        elif re.search(r"wte|wpe|embed", name):
            p.copy_(0.6 * noise)
        else:
            p.copy_(1.1 * noise / model.config.hidden_size**0.5)


def write_variant(folder, name):
    """One golden folder: both spellings of the config, the weights, the answers."""
    kind, detail, words, storage = VARIANTS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    dtype = storage.get("dtype", torch.float32)
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, bos_token_id=1, eos_token_id=2, **words))
    randomise(model, generator)
    model.to(dtype).save_pretrained(folder, max_shard_size=storage.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if storage.get("head"):
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save(tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}, {"format": "pt"}, path)
    if storage.get("bin"):
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin",
                   _use_new_zipfile_serialization=storage["bin"] == "zip")
    v5 = folder / "config.v5.json"
    (folder / "config.json").rename(v5)
    (folder / "config.json").write_text(json.dumps(hub_spelling(json.loads(v5.read_text())), indent=2) + "\n")
    ids = torch.randint(3, words["vocab_size"], (2, ROW), generator=generator)
    tensors, metadata = answers(folder, cases_of(ids, 0))
    tensors = {k: t for k, t in tensors.items() if re.fullmatch(DETAIL[detail], k)}
    if "plain.greedy_min_margin" in tensors and tensors["plain.greedy_min_margin"] < 1e-3:
        sys.exit(f"the greedy tokens of `{name}` are nearly tied: choose another seed")
    save(tensors, metadata | {"variant": name, "seed": str(SEED)}, folder / "reference.safetensors")
    return metadata


def golden(out, only):
    rows = []
    for name in VARIANTS:
        if only in (None, name):
            metadata = write_variant(out / name, name)
            print(name, metadata["max_abs_logit_diff_f32_f64"], file=sys.stderr)
            config = ", ".join(f"{k} {json.dumps(v)}" for k, v in VARIANTS[name][2].items())
            rows.append(f"| {name} | {metadata['family']} | {VARIANTS[name][1]} | {config} |"
                        f" {metadata['max_abs_logit_diff_f32_f64']} |")
    if only is None:
        (out / "README.md").write_text(README.format(
            date=datetime.date.today(), torch=torch.__version__, transformers=transformers.__version__,
            python=sys.version.split()[0], seed=SEED, rows="\n".join(rows)))


README = """# Golden set

Tiny random models of every family and what transformers answers for them, so that a clone proves parity on its own.
Made on {date} by `python scripts/reference.py golden --out tests/golden` with Python {python}, torch {torch},
transformers {transformers}, seed {seed}; `python scripts/reference.py check tests/golden/*` computes the answers again.
Nothing here is a trained model. No norm weight is 1 (0 in Gemma), no bias is 0.

A folder holds `config.json` (the hub's spelling, transformers 4), `config.v5.json` (the same model as transformers 5 spells
it), the weights and `reference.safetensors`, whose tensors the head of `scripts/reference.py` describes: two rows of 10
tokens, pad id 0. Compare padded cases only where `attention_mask` is 1.
`main` folders have every case; `lesser` ones logits, hidden states and attentions of `plain` and logits of `leftpad`;
`logits` ones the logits of `plain`. The last column is how far the float32 logits of transformers are from its float64 ones.

| folder | family | detail | config | f32 - f64 |
| --- | --- | --- | --- | --- |
{rows}
"""


def same_model(folder):
    """Whether the hub's spelling of a folder's config is read as what the other one says."""
    v5 = folder / "config.v5.json"
    if not v5.exists():
        return True
    hub, said = AutoConfig.from_pretrained(folder).to_dict(), json.loads(v5.read_text())
    if hub.get("rope_parameters"):
        hub["rope_parameters"].pop("type", None)
    return all(hub.get(k) == v for k, v in said.items() if k != "transformers_version")


def check(folder):
    """Prints the largest differences between a folder's reference file and the answers of now; whether they are small."""
    with safe_open(folder / "reference.safetensors", "pt") as file:
        stored = {k: file.get_tensor(k) for k in file.keys()}
    cases = {name: {k: stored[f"{name}.{k}"] for k in ("input_ids", "attention_mask", "position_ids")}
             for name in ("plain", "leftpad", "rightpad") if f"{name}.input_ids" in stored}
    now, _ = answers(folder, cases)
    off = {"f64": 0.0, "f32": 0.0}
    unknown = [k for k in stored if k not in now]
    for key, tensor in stored.items():
        if key in now:
            kind = "f32" if ".f32." in key else "f64"
            off[kind] = max(off[kind], (tensor.double() - now[key].double()).abs().max().item())
    same = same_model(folder)
    print(f"{folder.name:28} float64 {off['f64']:.1e}  float32 {off['f32']:.1e}  {len(stored) - len(unknown)} tensors"
          f"{'' if same else '  configs differ'}{f'  not computed: {unknown}' if unknown else ''}")
    return same and off["f64"] <= 1e-12


def answer(args):
    config = AutoConfig.from_pretrained(args.model)
    if args.prompt is not None:
        ids = AutoTokenizer.from_pretrained(args.model)(args.prompt, return_tensors="pt").input_ids
    elif args.tokens is not None:
        rows = [[int(t) for t in row.split(",")] for row in args.tokens.split(";")]
        if len({len(row) for row in rows}) != 1:
            sys.exit("the rows of `--tokens` differ in length: padding is added by the padded cases")
        ids = torch.tensor(rows)
    else:
        ids = torch.randint(0, config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(args.seed))
    pad = config.pad_token_id if config.pad_token_id is not None else 0
    tensors, metadata = answers(args.model, cases_of(ids, pad))
    save(tensors, metadata, args.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    job = jobs.add_parser("answer")
    job.add_argument("model", metavar="MODEL")
    job.add_argument("--out", type=pathlib.Path, required=True)
    text = job.add_mutually_exclusive_group()
    text.add_argument("--prompt")
    text.add_argument("--tokens")
    job.add_argument("--seed", type=int, default=SEED)
    job = jobs.add_parser("golden")
    job.add_argument("--out", type=pathlib.Path, required=True)
    job.add_argument("--only", choices=VARIANTS)
    job = jobs.add_parser("check")
    job.add_argument("folders", metavar="FOLDER", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    if args.job == "answer":
        answer(args)
    elif args.job == "golden":
        golden(args.out, args.only)
    else:
        sys.exit(not all([check(folder) for folder in args.folders]))


if __name__ == "__main__":
    main()
