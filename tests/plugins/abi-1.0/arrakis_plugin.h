/* The C ABI of Arrakis' plugins. Made from arrakis-core/src/plugin/abi.rs; do not edit.
 *
 * Structs that begin with `size` only grow at their end: the reader takes as many bytes as both sides know, and what is
 * missing reads as zero. A greater ARRAKIS_MINOR adds fields, a greater ARRAKIS_MAJOR breaks. Texts are UTF-8 without a
 * final zero, and lent for the length of the call. Bytes that are returned are freed by whoever made them.
 *
 * A tensor is an `at::Tensor *` of the LibTorch that both sides share. `const` tensors are lent for the length of the
 * call; the others change hands, and whoever holds one last frees it. docs/plugins.md tells the rest. */

#ifndef ARRAKIS_PLUGIN_H
#define ARRAKIS_PLUGIN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* What this header belongs to. */
#define ARRAKIS_LIBTORCH "2.11.0"
#define ARRAKIS_CORE "0.1.0"

// A plugin and a host work together only if this is equal.
#define ARRAKIS_MAJOR 1

// Grows whenever something is added.
#define ARRAKIS_MINOR 0

// It went well.
#define ARRAKIS_OK 0

// It failed; the bytes say why.
#define ARRAKIS_FAILED 1

// The work was cancelled.
#define ARRAKIS_CANCELLED 2

// The parameters are not what the tool takes; the bytes say why.
#define ARRAKIS_PARAMETERS 3

// A sweep told its plan in place of running; the bytes are the plan, in JSON.
#define ARRAKIS_PLANNED 4

// It panicked; the bytes say with what.
#define ARRAKIS_PANICKED 5

// `Call.flags`: `memory_limit` holds.
#define ARRAKIS_MEMORY_LIMITED 1

// `Call.flags`: a sweep is to tell its plan in place of running.
#define ARRAKIS_DRY_RUN 2

// `Pass.flags`: keys and values are wanted back.
#define ARRAKIS_KEEP_PAST 1

// `Pass.flags`: LibTorch records the pass, for gradients.
#define ARRAKIS_RECORD 2

// `Pass.flags`: the pass ends before the block `stop_at`.
#define ARRAKIS_STOP_AT 4

// `Pass.logits`: of every position.
#define ARRAKIS_LOGITS_ALL 0

// `Pass.logits`: of each row's last real token.
#define ARRAKIS_LOGITS_LAST 1

// `Pass.logits`: of the positions in `logits_at`; negative ones count from the end.
#define ARRAKIS_LOGITS_AT 2

// `Pass.logits`: none.
#define ARRAKIS_LOGITS_NONE 3

// `Dims.norm`: centred, divided by the standard deviation.
#define ARRAKIS_NORM_LAYER 0

// `Dims.norm`: divided by the root of the mean square.
#define ARRAKIS_NORM_RMS 1

// `Dims.residual`: the MLP reads what attention has written.
#define ARRAKIS_RESIDUAL_SERIAL 0

// `Dims.residual`: attention and MLP read the same stream.
#define ARRAKIS_RESIDUAL_PARALLEL 1

// `Point.axes`: the rows of a batch.
#define ARRAKIS_AXIS_BATCH 0

// `Point.axes`: the positions of the pass.
#define ARRAKIS_AXIS_POS 1

// `Point.axes`: the query heads.
#define ARRAKIS_AXIS_HEAD 2

// `Point.axes`: the key-value heads.
#define ARRAKIS_AXIS_KV_HEAD 3

// `Point.axes`: the positions that attend.
#define ARRAKIS_AXIS_QUERY 4

// `Point.axes`: the positions attended to.
#define ARRAKIS_AXIS_KEY 5

// `Point.axes`: the residual stream.
#define ARRAKIS_AXIS_D_MODEL 6

// `Point.axes`: one head's vector.
#define ARRAKIS_AXIS_D_HEAD 7

// `Point.axes`: the neurons.
#define ARRAKIS_AXIS_D_MLP 8

// `Point.axes`: a single entry.
#define ARRAKIS_AXIS_ONE 9

// `Point.axes`: what only some models have; a plugin does not see such a point.
#define ARRAKIS_AXIS_NAMED 10

// What a running tool works with, on the host's side.
typedef struct ArrakisContext ArrakisContext;

// A model of the host's.
typedef struct ArrakisModel ArrakisModel;

// An `at::Tensor` of the shared LibTorch: what its own stable C functions call `AtenTensorHandle`.
typedef struct ArrakisTensor ArrakisTensor;

// Bytes that are given away.
typedef struct ArrakisBytes {
  // The first byte; may be null if there is none.
  uint8_t *ptr;
  // How many bytes there are.
  size_t len;
  // What their maker needs to free them.
  size_t cap;
  // Frees them; null if they last as long as the program.
  void (*free)(uint8_t *ptr, size_t len, size_t cap);
} ArrakisBytes;

// A text that is lent.
typedef struct ArrakisStr {
  // Its first byte; may be null if there is none.
  const uint8_t *ptr;
  // How many bytes there are.
  size_t len;
} ArrakisStr;

// A tensor of an answer, and what it is said to be.
typedef struct ArrakisAttached {
  // The bytes of this struct.
  size_t size;
  // The name that the JSON of the answer refers to.
  struct ArrakisStr name;
  // The tensor, which changes hands.
  struct ArrakisTensor *tensor;
  // Its dtype, as LibTorch numbers them.
  int32_t dtype;
  // Its sizes.
  const int64_t *sizes;
  // How many there are.
  size_t dimensions;
} ArrakisAttached;

// What a model is, in numbers.
typedef struct ArrakisDims {
  // The bytes of this struct.
  size_t size;
  // The family, lent as long as the model lives.
  struct ArrakisStr family;
  // Blocks.
  uint64_t n_layers;
  // Query heads of a block.
  uint64_t n_heads;
  // Key-value heads of a block.
  uint64_t n_kv_heads;
  // The residual stream.
  uint64_t d_model;
  // One head's vector.
  uint64_t d_head;
  // The neurons of a block.
  uint64_t d_mlp;
  // The vocabulary.
  uint64_t vocab;
  // The positions that the model was made for.
  uint64_t context;
  // Added under the root of the norms.
  double norm_eps;
  // The kind of the norms: `NORM_LAYER` or `NORM_RMS`.
  uint32_t norm;
  // How the halves of a block meet: `RESIDUAL_SERIAL` or `RESIDUAL_PARALLEL`.
  uint32_t residual;
  // The dtype of the weights and of what flows, as LibTorch numbers them: 5 half, 6 float, 7 double, 15 bfloat16.
  int32_t dtype;
  // Where the weights lie: -1 the CPU, from 0 a CUDA device.
  int32_t device;
} ArrakisDims;

// A hook point; its place in `Points` is how hooks name it.
typedef struct ArrakisPoint {
  // The site's name, without the block.
  struct ArrakisStr site;
  // What each dimension runs over: `AXIS_…`.
  const uint8_t *axes;
  // How many dimensions there are.
  size_t axis_count;
  // The block, or -1 outside the blocks.
  int64_t layer;
} ArrakisPoint;

// The hook points of a model, lent as long as the model lives.
typedef struct ArrakisPoints {
  // The bytes of this struct.
  size_t size;
  // The first point.
  const struct ArrakisPoint *items;
  // How many there are.
  size_t count;
  // The bytes from one point to the next.
  size_t stride;
} ArrakisPoints;

// The name of a weight.
typedef struct ArrakisWeightName {
  // The name, without the block.
  struct ArrakisStr name;
  // The block, or -1 outside the blocks.
  int64_t layer;
} ArrakisWeightName;

// The weights of a model, lent as long as the model lives.
typedef struct ArrakisWeightNames {
  // The bytes of this struct.
  size_t size;
  // The first name.
  const struct ArrakisWeightName *items;
  // How many there are.
  size_t count;
  // The bytes from one name to the next.
  size_t stride;
} ArrakisWeightNames;

// A weight that stands in place of another.
typedef struct ArrakisWeightEdit {
  // Which one.
  struct ArrakisWeightName weight;
  // What stands there.
  const struct ArrakisTensor *value;
} ArrakisWeightEdit;

// Keys and values of one block: `[batch, kv_head, key, d_head]`.
typedef struct ArrakisKeyValue {
  // The keys.
  struct ArrakisTensor *keys;
  // The values.
  struct ArrakisTensor *values;
} ArrakisKeyValue;

// Keys and values of the positions already seen.
typedef struct ArrakisKeyValues {
  // The bytes of this struct.
  size_t size;
  // One entry for each block.
  const struct ArrakisKeyValue *layers;
  // How many there are.
  size_t layer_count;
  // The position of each key: `[batch, key]`.
  const struct ArrakisTensor *positions;
  // Which keys are real, or null if all are: `[batch, key]`.
  const struct ArrakisTensor *mask;
} ArrakisKeyValues;

// Who watches a pass. The functions are called on the thread that called `forward`, and end with it.
typedef struct ArrakisHooks {
  // The bytes of this struct.
  size_t size;
  // Given to each function.
  void *state;
  // Whether the value at a point is wanted: 0 if not.
  uint8_t (*watches)(void *state, size_t point);
  // Takes the value at a point and gives the value that flows on, which may be the same one.
  uint32_t (*visit)(void *state,
                    size_t point,
                    struct ArrakisTensor *value,
                    struct ArrakisTensor **flows_on,
                    struct ArrakisBytes *why);
  // The value that flows on whatever comes in, or null if that is not known; may be null.
  uint32_t (*given)(void *state, size_t point, struct ArrakisTensor **value, struct ArrakisBytes *why);
} ArrakisHooks;

// A request for one pass. Everything is lent.
typedef struct ArrakisPass {
  // The bytes of this struct.
  size_t size;
  // Token ids (`[batch, pos]`, 64-bit integers), or null.
  const struct ArrakisTensor *tokens;
  // The residual stream before the block `start_at` (`[batch, pos, d_model]`), or null; one of the two is given.
  const struct ArrakisTensor *residual;
  // Which positions are real, or null if all are: `[batch, pos]`, booleans.
  const struct ArrakisTensor *mask;
  // The position of each token, or null to count the real ones: `[batch, pos]`.
  const struct ArrakisTensor *positions;
  // What was seen before, or null.
  const struct ArrakisKeyValues *past;
  // Who watches, or null.
  const struct ArrakisHooks *hooks;
  // The first block to run.
  uint64_t start_at;
  // The block before which the pass ends, if `flags` says so.
  uint64_t stop_at;
  // `KEEP_PAST`, `RECORD`, `STOP_AT`.
  uint32_t flags;
  // The positions whose logits are wanted: `LOGITS_…`.
  uint32_t logits;
  // The positions of `LOGITS_AT`.
  const int64_t *logits_at;
  // How many there are.
  size_t logits_count;
} ArrakisPass;

// What a pass gives; the tensors change hands.
typedef struct ArrakisOutput {
  // The bytes of this struct, set by the caller.
  size_t size;
  // The residual stream where the pass ended, before the final norm: `[batch, pos, d_model]`.
  struct ArrakisTensor *residual;
  // Logits of the wanted positions (`[batch, wanted, vocab]`), or null.
  struct ArrakisTensor *logits;
  // Keys and values of each block, or null; freed by `layers_free` once the tensors are taken out.
  struct ArrakisKeyValue *layers;
  // How many there are.
  size_t layer_count;
  // Frees `layers`, not the tensors in it.
  void (*layers_free)(struct ArrakisKeyValue *layers, size_t count);
  // The position of each key (`[batch, key]`), or null where keys and values were not asked for.
  struct ArrakisTensor *positions;
  // Which keys are real, or null if all are: `[batch, key]`.
  struct ArrakisTensor *mask;
} ArrakisOutput;

// What a host can do for a plugin. The table lasts as long as the program.
//
// A function that can fail gives a status, and writes why to its last parameter, which must point at zeroed `Bytes`; the
// caller frees them. Contexts and lent models are good for the length of a call of `Tool.ask`, on its thread.
typedef struct ArrakisHost {
  // The bytes of this struct.
  size_t size;
  // The host's `MAJOR`.
  uint32_t major;
  // The host's `MINOR`.
  uint32_t minor;
  // Tells that `done` of `total` steps are finished; `CANCELLED` if the work is to stop.
  uint32_t (*progress)(const struct ArrakisContext *context, uint64_t done, uint64_t total, struct ArrakisBytes *why);
  // `CANCELLED` if the work is to stop.
  uint32_t (*cancelled)(const struct ArrakisContext *context, struct ArrakisBytes *why);
  // Writes a line to the log.
  uint32_t (*log)(const struct ArrakisContext *context, struct ArrakisStr line, struct ArrakisBytes *why);
  // Adds a tensor to the answer.
  uint32_t (*attach)(const struct ArrakisContext *context,
                     const struct ArrakisAttached *tensor,
                     struct ArrakisBytes *why);
  // The first `count` numbers in `0.0..1.0` of the random stream `name`; of none, the log still learns the name.
  uint32_t (*uniforms)(const struct ArrakisContext *context,
                       struct ArrakisStr name,
                       double *numbers,
                       size_t count,
                       struct ArrakisBytes *why);
  // The first `count` standard normal numbers of the random stream `name`.
  uint32_t (*normals)(const struct ArrakisContext *context,
                      struct ArrakisStr name,
                      double *numbers,
                      size_t count,
                      struct ArrakisBytes *why);
  // The sizes of a model; `dims.size` is set by the caller.
  uint32_t (*dims)(const struct ArrakisModel *model, struct ArrakisDims *dims, struct ArrakisBytes *why);
  // The hook points of a model; `points.size` is set by the caller.
  uint32_t (*points)(const struct ArrakisModel *model, struct ArrakisPoints *points, struct ArrakisBytes *why);
  // The weights of a model; `names.size` is set by the caller.
  uint32_t (*weights)(const struct ArrakisModel *model, struct ArrakisWeightNames *names, struct ArrakisBytes *why);
  // A weight in TransformerLens' orientation.
  uint32_t (*weight)(const struct ArrakisModel *model,
                     struct ArrakisWeightName weight,
                     struct ArrakisTensor **value,
                     struct ArrakisBytes *why);
  // A new model in which the given weights stand in place of the old; `model_free` frees it.
  uint32_t (*with_weights)(const struct ArrakisModel *model,
                           const struct ArrakisWeightEdit *edits,
                           size_t count,
                           const struct ArrakisModel **edited,
                           struct ArrakisBytes *why);
  // Frees a model that `with_weights` made.
  void (*model_free)(const struct ArrakisModel *model);
  // One pass; `output.size` is set by the caller.
  uint32_t (*forward)(const struct ArrakisModel *model,
                      const struct ArrakisPass *pass,
                      struct ArrakisOutput *output,
                      struct ArrakisBytes *why);
  // The logits (`[…, vocab]`) of a residual stream (`[…, d_model]`).
  uint32_t (*unembed)(const struct ArrakisModel *model,
                      const struct ArrakisTensor *residual,
                      struct ArrakisTensor **logits,
                      struct ArrakisBytes *why);
  // What parts of the residual stream (`[…, d_model]`) become under the final norm with `scale` held fixed.
  uint32_t (*final_norm)(const struct ArrakisModel *model,
                         const struct ArrakisTensor *parts,
                         const struct ArrakisTensor *scale,
                         struct ArrakisTensor **normed,
                         struct ArrakisBytes *why);
  // The token ids of a text, as 64-bit integers in `ids`; on failure the bytes say why.
  uint32_t (*encode)(const struct ArrakisModel *model, struct ArrakisStr text, struct ArrakisBytes *ids);
  // The id of the one token that a text is.
  uint32_t (*token_id)(const struct ArrakisModel *model, struct ArrakisStr text, int64_t *id, struct ArrakisBytes *why);
  // The text of token ids; on failure the bytes say why.
  uint32_t (*decode)(const struct ArrakisModel *model, const int64_t *ids, size_t count, struct ArrakisBytes *text);
  // The text of one token; its number in brackets where there is no tokenizer.
  uint32_t (*token)(const struct ArrakisModel *model, int64_t id, struct ArrakisBytes *text);
  // A digest of the weights and of what is done with them; on failure the bytes say why.
  uint32_t (*digest)(const struct ArrakisModel *model, struct ArrakisBytes *digest);
  // A new tensor on the CPU with a copy of `data`, row by row.
  uint32_t (*tensor_new)(const void *data,
                         int32_t dtype,
                         const int64_t *sizes,
                         size_t dimensions,
                         struct ArrakisTensor **tensor,
                         struct ArrakisBytes *why);
  // A copy of a tensor on the CPU, row by row.
  uint32_t (*tensor_copy)(const struct ArrakisTensor *tensor, struct ArrakisTensor **copy, struct ArrakisBytes *why);
  // Dtype and sizes of a tensor: writes at most `room` sizes, and how many there are.
  uint32_t (*tensor_shape)(const struct ArrakisTensor *tensor,
                           int32_t *dtype,
                           int64_t *sizes,
                           size_t room,
                           size_t *dimensions,
                           struct ArrakisBytes *why);
  // The numbers of a tensor that lies row by row on the CPU, as one of `tensor_copy` does.
  uint32_t (*tensor_data)(const struct ArrakisTensor *tensor, void **data, struct ArrakisBytes *why);
  // Frees a tensor.
  void (*tensor_free)(struct ArrakisTensor *tensor);
} ArrakisHost;

// A question to a tool. Everything is lent.
typedef struct ArrakisCall {
  // The bytes of this struct.
  size_t size;
  // What the host can do.
  const struct ArrakisHost *host;
  // What the tool works with.
  const struct ArrakisContext *context;
  // The model that is asked.
  const struct ArrakisModel *model;
  // The parameters, in JSON.
  struct ArrakisStr parameters;
  // The root of the random streams.
  uint64_t seed;
  // The bytes that the tool may hold in activations, if `flags` says so.
  uint64_t memory_limit;
  // `MEMORY_LIMITED`, `DRY_RUN`.
  uint32_t flags;
  // Zero: no field that is added may lie where the struct ends in padding.
  uint32_t reserved;
} ArrakisCall;

// A tool of a plugin. The functions may be called from any thread, and at the same time.
typedef struct ArrakisTool {
  // The name, as the stamp has it.
  struct ArrakisStr name;
  // The crate that holds it, with its version.
  struct ArrakisStr owner;
  // Given to each function.
  const void *state;
  // The JSON schema of the parameters; its `description` is the tool's help.
  uint32_t (*schema)(const void *state, struct ArrakisBytes *schema);
  // The parameters with every default filled in; null to take the defaults of the schema.
  uint32_t (*complete)(const void *state, struct ArrakisStr parameters, struct ArrakisBytes *complete);
  // Answers: the JSON of the answer, whose tensors were attached; on failure the bytes say why.
  uint32_t (*ask)(const void *state, const struct ArrakisCall *call, struct ArrakisBytes *answer);
} ArrakisTool;

// What a plugin has. The table lasts as long as the program.
typedef struct ArrakisPlugin {
  // The bytes of this struct.
  size_t size;
  // The `MAJOR` that it was built for.
  uint32_t major;
  // The `MINOR` that it was built for.
  uint32_t minor;
  // The first tool.
  const struct ArrakisTool *tools;
  // How many there are.
  size_t tool_count;
  // The bytes from one tool to the next.
  size_t tool_stride;
  // How many tensors this thread has given to the host, and taken from it; may be null.
  void (*handles)(uint64_t *given, uint64_t *taken);
} ArrakisPlugin;

// The function that a plugin exports, under the name that its stamp says; null if it will not work with this host.
typedef const struct ArrakisPlugin *(*ArrakisEntry)(const struct ArrakisHost *host);

#endif  /* ARRAKIS_PLUGIN_H */

/* Notes that are read before the plugin is loaded; each stands outside of functions, once for each plugin and tool. */

#define ARRAKIS_TEXT_(text) #text
#define ARRAKIS_TEXT(text) ARRAKIS_TEXT_(text)

#define ARRAKIS_NOTE(id, kind, json)                                                                                   \
  static const struct {                                                                                                \
    uint32_t name_len, text_len, type;                                                                                 \
    char name[8], text[(sizeof(json) + 2) / 4 * 4];                                                                    \
  } id __attribute__((section(".note.arrakis"), used, aligned(4))) = {8, sizeof(json) - 1, kind, "Arrakis", json}

/* What the plugin was built for: its name and version ("mine 0.1.0"), and the function of type ArrakisEntry. */
#define ARRAKIS_PLUGIN(plugin, entry)                                                                                  \
  ARRAKIS_NOTE(arrakis_stamp, 1,                                                                                       \
               "{\"abi\":\"" ARRAKIS_TEXT(ARRAKIS_MAJOR) "." ARRAKIS_TEXT(ARRAKIS_MINOR) "\",\"libtorch\":\""          \
               ARRAKIS_LIBTORCH "\",\"core\":\"" ARRAKIS_CORE "\",\"plugin\":\"" plugin                                \
               "\",\"tools\":\"own\",\"entry\":\"" ARRAKIS_TEXT(entry) "\"}")

/* A tool of the plugin; `owner` is what ARRAKIS_PLUGIN calls the plugin. */
#define ARRAKIS_TOOL(id, tool, owner) ARRAKIS_NOTE(id, 2, "{\"tool\":\"" tool "\",\"owner\":\"" owner "\"}")
