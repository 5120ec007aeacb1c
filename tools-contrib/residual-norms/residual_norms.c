/* The length of the residual stream, with and without an edit: a plugin in plain C.
 *
 * Built by hand, with no header but arrakis_plugin.h and no library:
 *
 *     cc -shared -fPIC -O2 -I arrakis-core/include -o residual_norms.so tools-contrib/residual-norms/residual_norms.c -lm
 */

#include <arrakis_plugin.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER "residual-norms 0.1.0"
#define NAME "contrib.residual_norms"

ARRAKIS_PLUGIN(OWNER, arrakis_plugin_residual_norms);
ARRAKIS_TOOL(residual_norms_tool, NAME, OWNER);

static const char SCHEMA[] =
    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"prompt\",\"layer\"],"
    "\"description\":\"Measures the residual stream after every block, plain and with one block's output scaled.\\n\\n"
    "The mean length of the stream over the positions, once as it is, and once with the stream after the block `layer` "
    "multiplied by `factor`. Up to that block the two are the same.\","
    "\"properties\":{"
    "\"prompt\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"description\":\"The token ids of one row.\"},"
    "\"layer\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"The block whose stream is scaled.\"},"
    "\"factor\":{\"type\":\"number\",\"default\":2.0,\"description\":\"What it is multiplied by.\"}}}";

static ArrakisStr str(const char *text) {
  return (ArrakisStr){(const uint8_t *)text, strlen(text)};
}

static void free_bytes(uint8_t *ptr, size_t len, size_t cap) {
  (void)len, (void)cap;
  free(ptr);
}

/* Gives a text away; it is copied. */
static void give(ArrakisBytes *to, const char *text) {
  size_t len = strlen(text);
  uint8_t *copy = malloc(len ? len : 1);
  if (to && copy) {
    memcpy(copy, text, len);
    *to = (ArrakisBytes){copy, len, len, free_bytes};
  } else {
    free(copy);
  }
}

static uint32_t fail(ArrakisBytes *why, uint32_t status, const char *words) {
  give(why, words);
  return status;
}

/* What the question asks for. */
typedef struct {
  int64_t *ids;
  size_t count;
  long layer;
  double factor;
} Question;

/* Where the value of a field begins, or null. The host has checked that there is no field but those of the schema. */
static const char *field(const char *json, const char *quoted) {
  const char *at = strstr(json, quoted);
  if (!at) return NULL;
  at += strlen(quoted);
  at += strspn(at, " \t\r\n");
  return *at == ':' ? at + 1 + strspn(at + 1, " \t\r\n") : NULL;
}

static int number(const char *at, double *value) {
  char *end;
  if (!at || (*at != '-' && (*at < '0' || *at > '9'))) return 0;
  *value = strtod(at, &end);
  return end != at && strchr(",} \t\r\n", *end) != NULL && isfinite(*value);
}

/* What is wrong with the parameters, or null. */
static const char *read_question(const char *json, Question *question) {
  const char *at = field(json, "\"prompt\"");
  double layer;
  if (!at || *at++ != '[') return "`prompt` is a list of token ids";
  question->ids = malloc((strlen(at) + 1) * sizeof(int64_t));
  if (!question->ids) return "there is no memory for the prompt";
  at += strspn(at, " \t\r\n");
  while (*at != ']') {
    char *end;
    question->ids[question->count] = strtoll(at, &end, 10);
    end += strspn(end, " \t\r\n");
    if (end == at || (*end != ',' && *end != ']')) return "`prompt` is a list of token ids";
    question->count++;
    at = *end == ',' ? end + 1 : end;
  }
  if (question->count == 0) return "`prompt` is empty";
  if (!number(field(json, "\"layer\""), &layer) || layer != floor(layer) || layer < 0 || layer > 1e6)
    return "`layer` is the number of a block";
  question->layer = (long)layer;
  if (!number(field(json, "\"factor\""), &question->factor)) return "`factor` is a number";
  return NULL;
}

/* What the hooks of a pass know and find. */
typedef struct {
  const ArrakisHost *host;
  const char *layers; /* for each point: whether it is a `hook_resid_post` */
  const ArrakisPoints *points;
  long scaled; /* the block whose stream is scaled, or -1 */
  double factor;
  double *norms; /* one for each block */
} Watch;

static const ArrakisPoint *point_at(const ArrakisPoints *points, size_t place) {
  return (const ArrakisPoint *)((const char *)points->items + place * points->stride);
}

static uint8_t watches(void *state, size_t place) {
  return ((const Watch *)state)->layers[place];
}

/* The mean length of the rows of `data`, each entry times `factor`, which is also written to `scaled` unless it is null. */
static double measure(const void *data, void *scaled, int32_t dtype, int64_t rows, int64_t width, double factor) {
  double sum = 0;
  for (int64_t row = 0; row < rows; row++) {
    double square = 0;
    for (int64_t column = 0; column < width; column++) {
      int64_t place = row * width + column;
      double value = dtype == 7 ? ((const double *)data)[place] * factor : (double)(((const float *)data)[place] * (float)factor);
      if (scaled && dtype == 7) ((double *)scaled)[place] = value;
      if (scaled && dtype == 6) ((float *)scaled)[place] = (float)value;
      square += value * value;
    }
    sum += sqrt(square);
  }
  return sum / (double)rows;
}

/* Measures `copy`; where its block is the one that is scaled, `flows_on` becomes a tensor of other numbers. */
static uint32_t look(Watch *watch, int64_t layer, const ArrakisTensor *copy, ArrakisTensor **flows_on, ArrakisBytes *why) {
  const ArrakisHost *host = watch->host;
  int32_t dtype;
  int64_t sizes[3];
  size_t dimensions;
  const void *data;
  uint32_t status = host->tensor_shape(copy, &dtype, sizes, 3, &dimensions, why);
  if (!status) status = host->tensor_data(copy, &data, why);
  if (status) return status;
  if (dimensions != 3 || (dtype != 6 && dtype != 7))
    return fail(why, ARRAKIS_FAILED, "this tool wants a model of float32 or float64");
  int64_t rows = sizes[0] * sizes[1];
  if (layer != watch->scaled) {
    watch->norms[layer] = measure(data, NULL, dtype, rows, sizes[2], 1.0);
    return ARRAKIS_OK;
  }
  /* What the host lends is never written to: other numbers want a tensor of one's own. */
  void *scaled = malloc((size_t)(rows * sizes[2]) * (dtype == 7 ? sizeof(double) : sizeof(float)));
  if (!scaled) return fail(why, ARRAKIS_FAILED, "there is no memory for the scaled stream");
  watch->norms[layer] = measure(data, scaled, dtype, rows, sizes[2], watch->factor);
  status = host->tensor_new(scaled, dtype, sizes, 3, flows_on, why);
  free(scaled);
  return status;
}

static uint32_t visit(void *state, size_t place, ArrakisTensor *value, ArrakisTensor **flows_on, ArrakisBytes *why) {
  Watch *watch = state;
  ArrakisTensor *copy = NULL, *scaled = NULL;
  uint32_t status = watch->host->tensor_copy(value, &copy, why);
  if (!status) status = look(watch, point_at(watch->points, place)->layer, copy, &scaled, why);
  watch->host->tensor_free(copy);
  /* What flows on is the scaled stream, or the value itself; of the two the other is freed. */
  if (!status) *flows_on = scaled ? scaled : value;
  if (status || scaled) watch->host->tensor_free(value);
  return status;
}

static uint32_t run(const ArrakisCall *call, const ArrakisTensor *tokens, Watch *watch, ArrakisBytes *why) {
  ArrakisHooks hooks = {.size = sizeof hooks, .state = watch, .watches = watches, .visit = visit};
  ArrakisPass pass = {.size = sizeof pass, .tokens = tokens, .hooks = &hooks, .logits = ARRAKIS_LOGITS_NONE};
  ArrakisOutput output = {.size = sizeof output};
  uint32_t status = call->host->forward(call->model, &pass, &output, why);
  call->host->tensor_free(output.residual);
  call->host->tensor_free(output.logits);
  return status;
}

/* The answer, in JSON: one series of two lines. */
static char *series(const double *plain, const double *scaled, size_t layers) {
  size_t room = 512 + layers * 80;
  char *json = malloc(room);
  if (!json) return NULL;
  size_t at = (size_t)snprintf(json, room,
                               "{\"norms\":{\"series\":{\"title\":\"length of the residual stream\",\"value\":\"mean length\","
                               "\"axis\":{\"name\":\"layer\",\"labels\":[");
  for (size_t layer = 0; layer < layers; layer++)
    at += (size_t)snprintf(json + at, room - at, "%s\"%zu\"", layer ? "," : "", layer);
  at += (size_t)snprintf(json + at, room - at, "]},\"lines\":[");
  for (int line = 0; line < 2; line++) {
    const double *norms = line ? scaled : plain;
    at += (size_t)snprintf(json + at, room - at, "%s{\"name\":\"%s\",\"values\":[", line ? "," : "", line ? "scaled" : "plain");
    for (size_t layer = 0; layer < layers; layer++) {
      /* JSON has no word for what is not finite. */
      const char *word = isnan(norms[layer]) ? "\"NaN\"" : isinf(norms[layer]) ? "\"Infinity\"" : NULL;
      const char *comma = layer ? "," : "";
      at += (size_t)(word ? snprintf(json + at, room - at, "%s%s", comma, word)
                          : snprintf(json + at, room - at, "%s%.17g", comma, norms[layer]));
    }
    at += (size_t)snprintf(json + at, room - at, "]}");
  }
  snprintf(json + at, room - at, "]}}}");
  return json;
}

static uint32_t answer(const ArrakisCall *call, const Question *question, ArrakisBytes *to) {
  const ArrakisHost *host = call->host;
  ArrakisDims dims = {.size = sizeof dims};
  ArrakisPoints points = {.size = sizeof points};
  uint32_t status = host->dims(call->model, &dims, to);
  if (!status) status = host->points(call->model, &points, to);
  if (status) return status;
  if ((uint64_t)question->layer >= dims.n_layers) return fail(to, ARRAKIS_FAILED, "`layer` is out of range");

  char *layers = calloc(points.count + 1, 1);
  double *plain = calloc(dims.n_layers + 1, sizeof(double)), *scaled = calloc(dims.n_layers + 1, sizeof(double));
  char *json = NULL;
  ArrakisTensor *tokens = NULL;
  if (!layers || !plain || !scaled) {
    status = fail(to, ARRAKIS_FAILED, "there is no memory for the answer");
    goto end;
  }
  static const char site[] = "hook_resid_post";
  for (size_t place = 0; place < points.count; place++) {
    const ArrakisPoint *point = point_at(&points, place);
    layers[place] = point->site.len == sizeof site - 1 && memcmp(point->site.ptr, site, sizeof site - 1) == 0;
  }
  int64_t sizes[2] = {1, (int64_t)question->count};
  status = host->tensor_new(question->ids, 4, sizes, 2, &tokens, to);
  if (status) goto end;
  Watch watch = {host, layers, &points, -1, question->factor, plain};
  status = run(call, tokens, &watch, to);
  if (!status) status = host->progress(call->context, 1, 2, to);
  if (!status) {
    watch.scaled = question->layer, watch.norms = scaled;
    status = run(call, tokens, &watch, to);
  }
  if (!status) status = host->progress(call->context, 2, 2, to);
  if (status) goto end;
  json = series(plain, scaled, dims.n_layers);
  status = json ? ARRAKIS_OK : ARRAKIS_FAILED;
  give(to, json ? json : "there is no memory for the answer");
end:
  host->tensor_free(tokens);
  free(json), free(scaled), free(plain), free(layers);
  return status;
}

static uint32_t ask(const void *state, const ArrakisCall *call, ArrakisBytes *to) {
  (void)state;
  Question question = {.count = 0};
  char *json = malloc(call->parameters.len + 1);
  if (!json) return fail(to, ARRAKIS_FAILED, "there is no memory for the parameters");
  memcpy(json, call->parameters.ptr, call->parameters.len);
  json[call->parameters.len] = 0;
  const char *wrong = read_question(json, &question);
  uint32_t status = wrong ? fail(to, ARRAKIS_PARAMETERS, wrong) : answer(call, &question, to);
  free(question.ids), free(json);
  return status;
}

static uint32_t schema(const void *state, ArrakisBytes *to) {
  (void)state;
  /* It lasts as long as the library, so nobody frees it. */
  *to = (ArrakisBytes){(uint8_t *)SCHEMA, sizeof SCHEMA - 1, 0, NULL};
  return ARRAKIS_OK;
}

const ArrakisPlugin *arrakis_plugin_residual_norms(const ArrakisHost *host) {
  static ArrakisTool tool;
  static ArrakisPlugin plugin;
  if (!host || host->major != ARRAKIS_MAJOR) return NULL;
  tool = (ArrakisTool){.name = str(NAME), .owner = str(OWNER), .schema = schema, .ask = ask};
  plugin = (ArrakisPlugin){
      .size = sizeof plugin,
      .major = ARRAKIS_MAJOR,
      .minor = ARRAKIS_MINOR,
      .tools = &tool,
      .tool_count = 1,
      .tool_stride = sizeof tool,
  };
  return &plugin;
}
