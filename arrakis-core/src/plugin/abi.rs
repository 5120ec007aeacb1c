//! The C ABI of plugins: every type and number that crosses, from which `include/arrakis_plugin.h` is made.
//!
//! Structs that begin with `size` only grow at their end: the reader takes as many bytes as both sides know, and what is
//! missing reads as zero. So do the items of an array that comes with its stride, the bytes from one item to the next as
//! its writer has them. A greater [`MINOR`] adds fields, a greater [`MAJOR`] breaks; what has neither size nor stride
//! never changes. Texts are UTF-8 without a final zero, and lent for the length of the call. Bytes that are returned are
//! freed by whoever made them.
//!
//! A tensor is an `at::Tensor *` of the LibTorch that both sides share. `const` tensors are lent for the length of the
//! call; the others change hands, and whoever holds one last frees it.

use std::ffi::c_void;

/// A plugin and a host work together only if this is equal.
pub const MAJOR: u32 = 1;
/// Grows whenever something is added.
pub const MINOR: u32 = 1;

/// It went well.
pub const OK: u32 = 0;
/// It failed; the bytes say why.
pub const FAILED: u32 = 1;
/// The work was cancelled.
pub const CANCELLED: u32 = 2;
/// The parameters are not what the tool takes; the bytes say why.
pub const PARAMETERS: u32 = 3;
/// A sweep told its plan in place of running; the bytes are the plan, in JSON.
pub const PLANNED: u32 = 4;
/// It panicked; the bytes say with what.
pub const PANICKED: u32 = 5;

/// `Call.flags`: `memory_limit` holds.
pub const MEMORY_LIMITED: u32 = 1;
/// `Call.flags`: a sweep is to tell its plan in place of running.
pub const DRY_RUN: u32 = 2;

/// `Pass.flags`: keys and values are wanted back.
pub const KEEP_PAST: u32 = 1;
/// `Pass.flags`: LibTorch records the pass, for gradients.
pub const RECORD: u32 = 2;
/// `Pass.flags`: the pass ends before the block `stop_at`.
pub const STOP_AT: u32 = 4;

/// `Pass.logits`: of every position.
pub const LOGITS_ALL: u32 = 0;
/// `Pass.logits`: of each row's last real token.
pub const LOGITS_LAST: u32 = 1;
/// `Pass.logits`: of the positions in `logits_at`; negative ones count from the end.
pub const LOGITS_AT: u32 = 2;
/// `Pass.logits`: none.
pub const LOGITS_NONE: u32 = 3;

/// `Dims.norm`: centred, divided by the standard deviation.
pub const NORM_LAYER: u32 = 0;
/// `Dims.norm`: divided by the root of the mean square.
pub const NORM_RMS: u32 = 1;

/// `Dims.residual`: the MLP reads what attention has written.
pub const RESIDUAL_SERIAL: u32 = 0;
/// `Dims.residual`: attention and MLP read the same stream.
pub const RESIDUAL_PARALLEL: u32 = 1;

/// `Point.axes`: the rows of a batch.
pub const AXIS_BATCH: u8 = 0;
/// `Point.axes`: the positions of the pass.
pub const AXIS_POS: u8 = 1;
/// `Point.axes`: the query heads.
pub const AXIS_HEAD: u8 = 2;
/// `Point.axes`: the key-value heads.
pub const AXIS_KV_HEAD: u8 = 3;
/// `Point.axes`: the positions that attend.
pub const AXIS_QUERY: u8 = 4;
/// `Point.axes`: the positions attended to.
pub const AXIS_KEY: u8 = 5;
/// `Point.axes`: the residual stream.
pub const AXIS_D_MODEL: u8 = 6;
/// `Point.axes`: one head's vector.
pub const AXIS_D_HEAD: u8 = 7;
/// `Point.axes`: the neurons.
pub const AXIS_D_MLP: u8 = 8;
/// `Point.axes`: a single entry.
pub const AXIS_ONE: u8 = 9;
/// `Point.axes`: what only some models have, under the name in `Point.axis_names` and of the size in `Dims.others`.
pub const AXIS_NAMED: u8 = 10;

/// An `at::Tensor` of the shared LibTorch: what its own stable C functions call `AtenTensorHandle`.
pub enum Tensor {}

/// A model of the host's.
pub enum Model {}

/// What a running tool works with, on the host's side.
pub enum Context {}

/// A text that is lent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Str {
    /// Its first byte; may be null if there is none.
    pub ptr: *const u8,
    /// How many bytes there are.
    pub len: usize,
}

/// Bytes that are given away.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    /// The first byte; may be null if there is none.
    pub ptr: *mut u8,
    /// How many bytes there are.
    pub len: usize,
    /// What their maker needs to free them.
    pub cap: usize,
    /// Frees them; null if they last as long as the program.
    pub free: Option<unsafe extern "C" fn(ptr: *mut u8, len: usize, cap: usize)>,
}

/// What a model is, in numbers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dims {
    /// The bytes of this struct.
    pub size: usize,
    /// The family, lent as long as the model lives.
    pub family: Str,
    /// Blocks.
    pub n_layers: u64,
    /// Query heads of a block.
    pub n_heads: u64,
    /// Key-value heads of a block.
    pub n_kv_heads: u64,
    /// The residual stream.
    pub d_model: u64,
    /// One head's vector.
    pub d_head: u64,
    /// The neurons of a block.
    pub d_mlp: u64,
    /// The vocabulary.
    pub vocab: u64,
    /// The positions that the model was made for.
    pub context: u64,
    /// Added under the root of the norms.
    pub norm_eps: f64,
    /// The kind of the norms: `NORM_LAYER` or `NORM_RMS`.
    pub norm: u32,
    /// How the halves of a block meet: `RESIDUAL_SERIAL` or `RESIDUAL_PARALLEL`.
    pub residual: u32,
    /// The dtype of the weights and of what flows, as LibTorch numbers them: 5 half, 6 float, 7 double, 15 bfloat16.
    pub dtype: i32,
    /// Where the weights lie: -1 the CPU, from 0 a CUDA device.
    pub device: i32,
    /// Sizes that only some models have, lent as long as the model lives; since 1.1.
    pub others: *const NamedSize,
    /// How many there are.
    pub other_count: usize,
    /// The bytes from one to the next.
    pub other_stride: usize,
}

/// The size of an axis that only some models have.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct NamedSize {
    /// The name of the axis.
    pub name: Str,
    /// How long it is.
    pub len: u64,
}

/// A hook point; its place in `Points` is how hooks name it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// The site's name, without the block.
    pub site: Str,
    /// What each dimension runs over: `AXIS_…`.
    pub axes: *const u8,
    /// How many dimensions there are.
    pub axis_count: usize,
    /// The block, or -1 outside the blocks.
    pub layer: i64,
    /// The name of each dimension for which `axes` says `AXIS_NAMED`, an empty text for each other one; null if there is
    /// none to name. Since 1.1.
    pub axis_names: *const Str,
}

/// The hook points of a model, lent as long as the model lives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Points {
    /// The bytes of this struct.
    pub size: usize,
    /// The first point.
    pub items: *const Point,
    /// How many there are.
    pub count: usize,
    /// The bytes from one point to the next.
    pub stride: usize,
}

/// The name of a weight.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WeightName {
    /// The name, without the block.
    pub name: Str,
    /// The block, or -1 outside the blocks.
    pub layer: i64,
}

/// The weights of a model, lent as long as the model lives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WeightNames {
    /// The bytes of this struct.
    pub size: usize,
    /// The first name.
    pub items: *const WeightName,
    /// How many there are.
    pub count: usize,
    /// The bytes from one name to the next.
    pub stride: usize,
}

/// A weight that stands in place of another.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WeightEdit {
    /// Which one.
    pub weight: WeightName,
    /// What stands there.
    pub value: *const Tensor,
}

/// Who watches a pass. The functions are called on the thread that called `forward`, and end with it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// The bytes of this struct.
    pub size: usize,
    /// Given to each function.
    pub state: *mut c_void,
    /// Whether the value at a point is wanted: 0 if not.
    pub watches: Option<unsafe extern "C" fn(state: *mut c_void, point: usize) -> u8>,
    /// Takes the value at a point and gives the value that flows on, which may be the same one.
    pub visit: Option<
        unsafe extern "C" fn(
            state: *mut c_void,
            point: usize,
            value: *mut Tensor,
            flows_on: *mut *mut Tensor,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// The value that flows on whatever comes in, or null if that is not known; may be null.
    pub given:
        Option<unsafe extern "C" fn(state: *mut c_void, point: usize, value: *mut *mut Tensor, why: *mut Bytes) -> u32>,
    /// Hears that what ends at a point is computed, whether or not the value there was shown; may be null. Since 1.1.
    pub passed: Option<unsafe extern "C" fn(state: *mut c_void, point: usize)>,
}

/// Keys and values of one block: `[batch, kv_head, key, d_head]`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KeyValue {
    /// The keys.
    pub keys: *mut Tensor,
    /// The values.
    pub values: *mut Tensor,
}

/// Keys and values of the positions already seen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KeyValues {
    /// The bytes of this struct.
    pub size: usize,
    /// One entry for each block.
    pub layers: *const KeyValue,
    /// How many there are.
    pub layer_count: usize,
    /// The position of each key: `[batch, key]`.
    pub positions: *const Tensor,
    /// Which keys are real, or null if all are: `[batch, key]`.
    pub mask: *const Tensor,
}

/// A request for one pass. Everything is lent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// The bytes of this struct.
    pub size: usize,
    /// Token ids (`[batch, pos]`, 64-bit integers), or null.
    pub tokens: *const Tensor,
    /// The residual stream before the block `start_at` (`[batch, pos, d_model]`), or null; one of the two is given.
    pub residual: *const Tensor,
    /// Which positions are real, or null if all are: `[batch, pos]`, booleans.
    pub mask: *const Tensor,
    /// The position of each token, or null to count the real ones: `[batch, pos]`.
    pub positions: *const Tensor,
    /// What was seen before, or null.
    pub past: *const KeyValues,
    /// Who watches, or null.
    pub hooks: *const Hooks,
    /// The first block to run.
    pub start_at: u64,
    /// The block before which the pass ends, if `flags` says so.
    pub stop_at: u64,
    /// `KEEP_PAST`, `RECORD`, `STOP_AT`.
    pub flags: u32,
    /// The positions whose logits are wanted: `LOGITS_…`.
    pub logits: u32,
    /// The positions of `LOGITS_AT`.
    pub logits_at: *const i64,
    /// How many there are.
    pub logits_count: usize,
}

/// What a pass gives; the tensors change hands.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The bytes of this struct, set by the caller.
    pub size: usize,
    /// The residual stream where the pass ended, before the final norm: `[batch, pos, d_model]`.
    pub residual: *mut Tensor,
    /// Logits of the wanted positions (`[batch, wanted, vocab]`), or null.
    pub logits: *mut Tensor,
    /// Keys and values of each block, or null; freed by `layers_free` once the tensors are taken out.
    pub layers: *mut KeyValue,
    /// How many there are.
    pub layer_count: usize,
    /// Frees `layers`, not the tensors in it.
    pub layers_free: Option<unsafe extern "C" fn(layers: *mut KeyValue, count: usize)>,
    /// The position of each key (`[batch, key]`), or null where keys and values were not asked for.
    pub positions: *mut Tensor,
    /// Which keys are real, or null if all are: `[batch, key]`.
    pub mask: *mut Tensor,
}

/// A tensor of an answer, and what it is said to be.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Attached {
    /// The bytes of this struct.
    pub size: usize,
    /// The name that the JSON of the answer refers to.
    pub name: Str,
    /// The tensor, which changes hands.
    pub tensor: *mut Tensor,
    /// Its dtype, as LibTorch numbers them.
    pub dtype: i32,
    /// Its sizes.
    pub sizes: *const i64,
    /// How many there are.
    pub dimensions: usize,
}

/// What a host can do for a plugin. The table lasts as long as the program.
///
/// A function that can fail gives a status, and writes why to its last parameter, which must point at zeroed `Bytes`; the
/// caller frees them. Contexts and lent models are good for the length of a call of `Tool.ask`, on its thread.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// The bytes of this struct.
    pub size: usize,
    /// The host's `MAJOR`.
    pub major: u32,
    /// The host's `MINOR`.
    pub minor: u32,
    /// Tells that `done` of `total` steps are finished; `CANCELLED` if the work is to stop.
    pub progress: Option<unsafe extern "C" fn(context: *const Context, done: u64, total: u64, why: *mut Bytes) -> u32>,
    /// `CANCELLED` if the work is to stop.
    pub cancelled: Option<unsafe extern "C" fn(context: *const Context, why: *mut Bytes) -> u32>,
    /// Writes a line to the log.
    pub log: Option<unsafe extern "C" fn(context: *const Context, line: Str, why: *mut Bytes) -> u32>,
    /// Adds a tensor to the answer.
    pub attach: Option<unsafe extern "C" fn(context: *const Context, tensor: *const Attached, why: *mut Bytes) -> u32>,
    /// The first `count` numbers in `0.0..1.0` of the random stream `name`; of none, the log still learns the name.
    pub uniforms: Option<
        unsafe extern "C" fn(
            context: *const Context,
            name: Str,
            numbers: *mut f64,
            count: usize,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// The first `count` standard normal numbers of the random stream `name`.
    pub normals: Option<
        unsafe extern "C" fn(
            context: *const Context,
            name: Str,
            numbers: *mut f64,
            count: usize,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// The sizes of a model; `dims.size` is set by the caller.
    pub dims: Option<unsafe extern "C" fn(model: *const Model, dims: *mut Dims, why: *mut Bytes) -> u32>,
    /// The hook points of a model; `points.size` is set by the caller.
    pub points: Option<unsafe extern "C" fn(model: *const Model, points: *mut Points, why: *mut Bytes) -> u32>,
    /// The weights of a model; `names.size` is set by the caller.
    pub weights: Option<unsafe extern "C" fn(model: *const Model, names: *mut WeightNames, why: *mut Bytes) -> u32>,
    /// A weight in TransformerLens' orientation.
    pub weight: Option<
        unsafe extern "C" fn(model: *const Model, weight: WeightName, value: *mut *mut Tensor, why: *mut Bytes) -> u32,
    >,
    /// A new model in which the given weights stand in place of the old; `model_free` frees it.
    pub with_weights: Option<
        unsafe extern "C" fn(
            model: *const Model,
            edits: *const WeightEdit,
            count: usize,
            edited: *mut *const Model,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// Frees a model that `with_weights` made.
    pub model_free: Option<unsafe extern "C" fn(model: *const Model)>,
    /// One pass; `output.size` is set by the caller.
    pub forward: Option<
        unsafe extern "C" fn(model: *const Model, pass: *const Pass, output: *mut Output, why: *mut Bytes) -> u32,
    >,
    /// The logits (`[…, vocab]`) of a residual stream (`[…, d_model]`).
    pub unembed: Option<
        unsafe extern "C" fn(
            model: *const Model,
            residual: *const Tensor,
            logits: *mut *mut Tensor,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// What parts of the residual stream (`[…, d_model]`) become under the final norm with `scale` held fixed.
    pub final_norm: Option<
        unsafe extern "C" fn(
            model: *const Model,
            parts: *const Tensor,
            scale: *const Tensor,
            normed: *mut *mut Tensor,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// The token ids of a text, as 64-bit integers in `ids`; on failure the bytes say why.
    pub encode: Option<unsafe extern "C" fn(model: *const Model, text: Str, ids: *mut Bytes) -> u32>,
    /// The id of the one token that a text is.
    pub token_id: Option<unsafe extern "C" fn(model: *const Model, text: Str, id: *mut i64, why: *mut Bytes) -> u32>,
    /// The text of token ids; on failure the bytes say why.
    pub decode:
        Option<unsafe extern "C" fn(model: *const Model, ids: *const i64, count: usize, text: *mut Bytes) -> u32>,
    /// The text of one token; its number in brackets where there is no tokenizer.
    pub token: Option<unsafe extern "C" fn(model: *const Model, id: i64, text: *mut Bytes) -> u32>,
    /// A digest of the weights and of what is done with them; on failure the bytes say why.
    pub digest: Option<unsafe extern "C" fn(model: *const Model, digest: *mut Bytes) -> u32>,
    /// A new tensor on the CPU with a copy of `data`, row by row.
    pub tensor_new: Option<
        unsafe extern "C" fn(
            data: *const c_void,
            dtype: i32,
            sizes: *const i64,
            dimensions: usize,
            tensor: *mut *mut Tensor,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// A copy of a tensor on the CPU, row by row.
    pub tensor_copy:
        Option<unsafe extern "C" fn(tensor: *const Tensor, copy: *mut *mut Tensor, why: *mut Bytes) -> u32>,
    /// Dtype and sizes of a tensor: writes at most `room` sizes, and how many there are.
    pub tensor_shape: Option<
        unsafe extern "C" fn(
            tensor: *const Tensor,
            dtype: *mut i32,
            sizes: *mut i64,
            room: usize,
            dimensions: *mut usize,
            why: *mut Bytes,
        ) -> u32,
    >,
    /// The numbers of a tensor that lies row by row on the CPU, as one of `tensor_copy` does, to be read while it lives.
    ///
    /// They may be the model's own weights or what flows in a pass: nothing writes to them. For other numbers a plugin
    /// makes a tensor of its own with `tensor_new`.
    pub tensor_data:
        Option<unsafe extern "C" fn(tensor: *const Tensor, data: *mut *const c_void, why: *mut Bytes) -> u32>,
    /// Frees a tensor.
    pub tensor_free: Option<unsafe extern "C" fn(tensor: *mut Tensor)>,
    /// A digest of what turns text into tokens, no bytes where there is no tokenizer; on failure the bytes say why.
    /// Since 1.1.
    pub tokenizer_digest: Option<unsafe extern "C" fn(model: *const Model, digest: *mut Bytes) -> u32>,
    /// How the weights are laid out where that rounds otherwise than weights as they were loaded, else no bytes. Since 1.1.
    pub layout: Option<unsafe extern "C" fn(model: *const Model, layout: *mut Bytes) -> u32>,
}

/// A question to a tool. Everything is lent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The bytes of this struct.
    pub size: usize,
    /// What the host can do.
    pub host: *const Host,
    /// What the tool works with.
    pub context: *const Context,
    /// The model that is asked.
    pub model: *const Model,
    /// The parameters, in JSON.
    pub parameters: Str,
    /// The root of the random streams.
    pub seed: u64,
    /// The bytes that the tool may hold in activations, if `flags` says so.
    pub memory_limit: u64,
    /// `MEMORY_LIMITED`, `DRY_RUN`.
    pub flags: u32,
    /// Zero: no field that is added may lie where the struct ends in padding.
    pub reserved: u32,
}

/// A tool of a plugin. The functions may be called from any thread, and at the same time.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// The name, as the stamp has it.
    pub name: Str,
    /// The crate that holds it, with its version.
    pub owner: Str,
    /// Given to each function.
    pub state: *const c_void,
    /// The JSON schema of the parameters; its `description` is the tool's help.
    pub schema: Option<unsafe extern "C" fn(state: *const c_void, schema: *mut Bytes) -> u32>,
    /// The parameters with every default filled in; null to take the defaults of the schema.
    pub complete: Option<unsafe extern "C" fn(state: *const c_void, parameters: Str, complete: *mut Bytes) -> u32>,
    /// Answers: the JSON of the answer, whose tensors were attached; on failure the bytes say why.
    pub ask: Option<unsafe extern "C" fn(state: *const c_void, call: *const Call, answer: *mut Bytes) -> u32>,
}

/// What a plugin has. The table lasts as long as the program.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    /// The bytes of this struct.
    pub size: usize,
    /// The `MAJOR` that it was built for.
    pub major: u32,
    /// The `MINOR` that it was built for.
    pub minor: u32,
    /// The first tool.
    pub tools: *const Tool,
    /// How many there are.
    pub tool_count: usize,
    /// The bytes from one tool to the next.
    pub tool_stride: usize,
    /// How many tensors this thread has given to the host, and taken from it; may be null.
    pub handles: Option<unsafe extern "C" fn(given: *mut u64, taken: *mut u64)>,
}

/// The function that a plugin exports, under the name that its stamp says; null if it will not work with this host.
pub type Entry = unsafe extern "C" fn(host: *const Host) -> *const Plugin;
