/* A plugin that tells what it sees of a model and of one pass; it is built for several minor versions of the ABI.
 *
 * It counts in numbers that a plugin of every version sees, and in those that only one of 1.1 does. LATER makes it one of
 * a later version, whose structs have fields that no host knows yet.
 */

#include <arrakis_plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER "probe 1.0.0"

#ifdef LATER
#define GROWN(type) struct { type it; uint64_t later[4]; }
ARRAKIS_NOTE(stamp, 1, "{\"abi\":\"1.9\",\"libtorch\":\"" ARRAKIS_LIBTORCH "\",\"core\":\"9.9.9\",\"plugin\":\"" OWNER
                       "\",\"tools\":\"own\",\"entry\":\"arrakis_plugin_probe\",\"more\":[1]}");
#else
#define GROWN(type) struct { type it; }
ARRAKIS_PLUGIN(OWNER, arrakis_plugin_probe);
#endif
ARRAKIS_TOOL(probe_tool, "probe.see", OWNER);

static ArrakisStr str(const char *text) { return (ArrakisStr){(const uint8_t *)text, strlen(text)}; }

static int is(ArrakisStr text, const char *known) {
  return text.len == strlen(known) && memcmp(text.ptr, known, text.len) == 0;
}

static uint32_t say(ArrakisBytes *to, uint32_t status, const char *words) {
  *to = (ArrakisBytes){(uint8_t *)words, strlen(words), 0, NULL};
  return status;
}

static uint32_t schema(const void *state, ArrakisBytes *to) {
  (void)state;
  return say(to, ARRAKIS_OK, "{\"type\":\"object\",\"description\":\"Sees.\",\"properties\":{}}");
}

/* Counts the visits of a pass; a point is watched if it lies after the block 0 or is `attn.hook_lag`. */
typedef struct {
  const ArrakisHost *host;
  ArrakisPoints points;
  uint64_t visits, lag_entries, passed;
} Watch;

static const ArrakisPoint *point_at(const ArrakisPoints *points, size_t place) {
  return (const ArrakisPoint *)((const char *)points->items + place * points->stride);
}

static uint8_t watches(void *state, size_t place) {
  const ArrakisPoint *point = point_at(&((Watch *)state)->points, place);
  return point->layer == 1 || is(point->site, "attn.hook_lag");
}

static uint32_t visit(void *state, size_t place, ArrakisTensor *value, ArrakisTensor **flows_on, ArrakisBytes *why) {
  Watch *watch = state;
  int32_t dtype;
  int64_t sizes[4];
  size_t dimensions;
  uint32_t status = watch->host->tensor_shape(value, &dtype, sizes, 4, &dimensions, why);
  if (status) return watch->host->tensor_free(value), status;
  watch->visits++;
  if (is(point_at(&watch->points, place)->site, "attn.hook_lag")) watch->lag_entries += (uint64_t)(sizes[2] * sizes[3]);
  *flows_on = value;
  return ARRAKIS_OK;
}

#if ARRAKIS_MINOR >= 1
static void passed(void *state, size_t place) {
  (void)place;
  ((Watch *)state)->passed++;
}
#endif

/* A pass that gives keys and values back, and one that goes on from them. */
static uint32_t passes(const ArrakisCall *call, Watch *watch, ArrakisBytes *why) {
  const ArrakisHost *host = call->host;
  int64_t ids[4] = {1, 2, 3, 4}, first[2] = {1, 3}, rest[2] = {1, 1};
  ArrakisTensor *tokens = NULL, *next = NULL;
  GROWN(ArrakisHooks) hooks = {.it = {.size = sizeof hooks, .state = watch, .watches = watches, .visit = visit}};
#if ARRAKIS_MINOR >= 1
  hooks.it.passed = passed;
#endif
  GROWN(ArrakisPass) pass = {.it = {.size = sizeof pass, .hooks = &hooks.it, .flags = ARRAKIS_KEEP_PAST}};
  GROWN(ArrakisOutput) seen = {.it = {.size = sizeof seen}}, output = {.it = {.size = sizeof output}};
  GROWN(ArrakisKeyValues) past = {.it = {.size = sizeof past}};
  uint32_t status = host->tensor_new(ids, 4, first, 2, &tokens, why);
  if (!status) status = host->tensor_new(ids + 3, 4, rest, 2, &next, why);
  pass.it.tokens = tokens;
  if (!status) status = host->forward(call->model, &pass.it, &seen.it, why);
  past.it.layers = seen.it.layers, past.it.layer_count = seen.it.layer_count;
  past.it.positions = seen.it.positions, past.it.mask = seen.it.mask;
  pass.it.tokens = next, pass.it.past = &past.it, pass.it.flags = 0, pass.it.hooks = NULL;
  if (!status) status = host->forward(call->model, &pass.it, &output.it, why);
  if (!status && seen.it.size != sizeof seen) status = say(why, ARRAKIS_FAILED, "the host has changed a size");
#ifdef LATER
  for (int field = 0; field < 4; field++)
    if (!status && seen.later[field] != 0) status = say(why, ARRAKIS_FAILED, "the host has written what it does not know");
#endif
  for (size_t layer = 0; layer < seen.it.layer_count; layer++) {
    host->tensor_free(seen.it.layers[layer].keys);
    host->tensor_free(seen.it.layers[layer].values);
  }
  if (seen.it.layers_free) seen.it.layers_free(seen.it.layers, seen.it.layer_count);
  host->tensor_free(seen.it.residual), host->tensor_free(seen.it.logits), host->tensor_free(seen.it.positions);
  host->tensor_free(output.it.residual), host->tensor_free(output.it.logits);
  host->tensor_free(tokens), host->tensor_free(next);
  return status;
}

static void free_bytes(uint8_t *ptr, size_t len, size_t cap) {
  (void)len, (void)cap;
  free(ptr);
}

static uint32_t ask(const void *state, const ArrakisCall *call, ArrakisBytes *to) {
  (void)state;
  const ArrakisHost *host = call->host;
  GROWN(ArrakisDims) dims = {.it = {.size = sizeof dims}};
  GROWN(ArrakisPoints) points = {.it = {.size = sizeof points}};
  GROWN(ArrakisWeightNames) weights = {.it = {.size = sizeof weights}};
  uint32_t status = host->dims(call->model, &dims.it, to);
  if (!status) status = host->points(call->model, &points.it, to);
  if (!status) status = host->weights(call->model, &weights.it, to);
  Watch watch = {.host = host, .points = points.it};
  if (!status) status = passes(call, &watch, to);
  if (status) return status;
  uint64_t named_axes = 0, lag_axes = 0, lag = 0, digest = 0;
#if ARRAKIS_MINOR >= 1
  if (ARRAKIS_HAS(ArrakisHost, host, tokenizer_digest)) {
    ArrakisBytes bytes = {0};
    status = host->tokenizer_digest(call->model, &bytes);
    digest = bytes.len;
    if (bytes.free) bytes.free(bytes.ptr, bytes.len, bytes.cap);
    if (status) return status;
  }
#endif
  for (size_t place = 0; place < points.it.count; place++) {
    const ArrakisPoint *point = point_at(&points.it, place);
    for (size_t axis = 0; axis < point->axis_count; axis++) {
      named_axes += point->axes[axis] == ARRAKIS_AXIS_NAMED;
#if ARRAKIS_MINOR >= 1
      lag_axes += point->axis_names && is(point->axis_names[axis], "lag");
#endif
    }
  }
#if ARRAKIS_MINOR >= 1
  for (size_t place = 0; place < dims.it.other_count; place++) {
    const ArrakisNamedSize *size = (const void *)((const char *)dims.it.others + place * dims.it.other_stride);
    if (is(size->name, "lag")) lag = size->len;
  }
#endif
  char *json = malloc(1024);
  if (!json) return ARRAKIS_FAILED;
  int len = snprintf(json, 1024, "{\"layers\":{\"number\":%llu},\"points\":{\"number\":%zu},\"weights\":{\"number\":%zu},"
                     "\"visits\":{\"number\":%llu},\"lag_entries\":{\"number\":%llu},\"named_axes\":{\"number\":%llu},"
                     "\"lag_axes\":{\"number\":%llu},\"lag\":{\"number\":%llu},\"passed\":{\"number\":%llu},"
                     "\"digest\":{\"number\":%llu}}",
                     (unsigned long long)dims.it.n_layers, points.it.count, weights.it.count,
                     (unsigned long long)watch.visits, (unsigned long long)watch.lag_entries,
                     (unsigned long long)named_axes, (unsigned long long)lag_axes, (unsigned long long)lag,
                     (unsigned long long)watch.passed, (unsigned long long)digest);
  *to = (ArrakisBytes){(uint8_t *)json, (size_t)len, 1024, free_bytes};
  return ARRAKIS_OK;
}

const ArrakisPlugin *arrakis_plugin_probe(const ArrakisHost *host) {
  static GROWN(ArrakisTool) tools[1];
  static GROWN(ArrakisPlugin) plugin;
  if (!host || host->major != ARRAKIS_MAJOR) return NULL;
  tools[0].it = (ArrakisTool){.name = str("probe.see"), .owner = str(OWNER), .schema = schema, .ask = ask};
  plugin.it = (ArrakisPlugin){
      .size = sizeof plugin,
      .major = ARRAKIS_MAJOR,
      .minor = ARRAKIS_MINOR,
      .tools = &tools[0].it,
      .tool_count = 1,
      .tool_stride = sizeof tools[0],
  };
  return &plugin.it;
}
