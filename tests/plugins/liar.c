/* A plugin that lies: LIE says about what its file or its table does, and the parameter `lie` what its tool does. */

#define _GNU_SOURCE
#include <arrakis_plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  HONEST, OTHER_ABI, OTHER_LIBTORCH, OTHER_ENTRY, BROKEN_STAMP, NO_STAMP, TWO_STAMPS, TOOL_TWICE, NO_TOOLS,
  REFUSES, NO_SIZE, HUGE_SIZE, OTHER_MAJOR, NULL_TOOLS, MANY_TOOLS, SMALL_STRIDE, ODD_STRIDE, NULL_NAME, LONG_NAME,
  NO_ASK, NO_SCHEMA, BAD_SCHEMA, NO_OBJECT, FAILING_SCHEMA, OTHER_NAME, BAD_UTF8, GROWN, MISSING_SYMBOL
};

#ifndef LIE
#define LIE HONEST
#endif

#ifndef NAME
#define NAME "liar.tool"
#endif
#define OWNER "liar 1.0.0"
#define STAMP(abi, libtorch, entry)                                                                                    \
  "{\"abi\":\"" abi "\",\"libtorch\":\"" libtorch "\",\"core\":\"0\",\"plugin\":\"" OWNER                              \
  "\",\"tools\":\"own\",\"entry\":\"" entry "\"}"

#if LIE_IS_OTHER_ABI
ARRAKIS_NOTE(stamp, 1, STAMP("2.0", "2.11.0", "arrakis_plugin_liar"));
#elif LIE_IS_OTHER_LIBTORCH
ARRAKIS_NOTE(stamp, 1, STAMP("1.0", "2.10.0", "arrakis_plugin_liar"));
#elif LIE_IS_OTHER_ENTRY
ARRAKIS_NOTE(stamp, 1, STAMP("1.0", "2.11.0", "arrakis_plugin_lair"));
#elif LIE_IS_BROKEN_STAMP
ARRAKIS_NOTE(stamp, 1, "{\"abi\":");
#elif !LIE_IS_NO_STAMP
ARRAKIS_PLUGIN(OWNER, arrakis_plugin_liar);
#endif
#if LIE_IS_TWO_STAMPS
ARRAKIS_NOTE(second, 1, STAMP("1.0", "2.11.0", "arrakis_plugin_liar"));
#endif
#if !LIE_IS_NO_TOOLS
ARRAKIS_TOOL(first_tool, NAME, OWNER);
#endif
#if LIE_IS_TOOL_TWICE
ARRAKIS_TOOL(second_tool, NAME, OWNER);
#endif
#if LIE_IS_MISSING_SYMBOL
extern int liar_is_not_defined_anywhere(void);
int (*liar_needs)(void) = liar_is_not_defined_anywhere;
#endif

static ArrakisStr str(const char *text) { return (ArrakisStr){(const uint8_t *)text, strlen(text)}; }

static uint32_t say(ArrakisBytes *to, uint32_t status, const char *words) {
  *to = (ArrakisBytes){(uint8_t *)words, strlen(words), 0, NULL};
  return status;
}

static uint32_t schema(const void *state, ArrakisBytes *to) {
  (void)state;
  if (LIE == BAD_SCHEMA) return say(to, 0, "{\"type\":");
  if (LIE == NO_OBJECT) return say(to, 0, "[]");
  if (LIE == FAILING_SCHEMA) return say(to, ARRAKIS_FAILED, "the schema is lost");
  return say(to, 0, "{\"description\":\"Lies.\",\"properties\":{\"lie\":{\"type\":\"string\"},"
                    "\"more\":{\"type\":\"integer\",\"default\":3}},\"required\":[\"lie\"]}");
}

static uint32_t attach(const ArrakisCall *call, int32_t dtype, int64_t said, int none, ArrakisBytes *why) {
  double numbers[2] = {1, 2};
  int64_t size = 2;
  ArrakisTensor *tensor = NULL;
  uint32_t status = call->host->tensor_new(numbers, 7, &size, 1, &tensor, why);
  if (status) return status;
  if (none) call->host->tensor_free(tensor), tensor = NULL;
  ArrakisAttached attached = {.size = sizeof attached, .name = str("t"), .tensor = tensor, .dtype = dtype, .sizes = &said, .dimensions = 1};
  return call->host->attach(call->context, &attached, why);
}

static uint8_t watches(void *state, size_t point) {
  (void)state;
  return point == 0;
}

static uint32_t keeps_value(void *state, size_t point, ArrakisTensor *value, ArrakisTensor **flows_on, ArrakisBytes *why) {
  (void)point, (void)flows_on, (void)why;
  ((const ArrakisHost *)state)->tensor_free(value);
  return ARRAKIS_OK;
}

#define STACK "{\"s\":{\"stack\":{\"title\":\"\",\"value\":\"\",\"axes\":[{\"name\":\"\",\"labels\":["
static uint32_t ask(const void *state, const ArrakisCall *call, ArrakisBytes *to) {
  (void)state;
  char lie[64] = {0};
  const char *at = memmem(call->parameters.ptr, call->parameters.len, "\"lie\":\"", 7);
  for (size_t place = 0; at && place < 63 && at[7 + place] != '"'; place++) lie[place] = at[7 + place];
#define IS(name) (strcmp(lie, name) == 0)
  if (IS("none")) return say(to, 0, "{\"one\":{\"number\":1}}");
  if (IS("parameters")) {
    static char copy[256];
    memcpy(copy, call->parameters.ptr, call->parameters.len < 255 ? call->parameters.len : 255);
    return say(to, ARRAKIS_PARAMETERS, copy);
  }
  if (IS("no json")) return say(to, 0, "{\"one\":");
  if (IS("no object")) return say(to, 0, "3");
  if (IS("nothing")) return say(to, 0, "");
  if (IS("no shape")) return say(to, 0, "{\"one\":{\"cube\":1}}");
  if (IS("wrong count")) return say(to, 0, "{\"g\":{\"grid\":{\"title\":\"\",\"value\":\"\",\"rows\":{\"name\":\"\",\"labels\":[\"a\"]},"
                                           "\"columns\":{\"name\":\"\",\"labels\":[\"b\"]},\"values\":[1,2,3]}}}");
  if (IS("null bytes")) return to->len = 1 << 20, 0;
  if (IS("long bytes")) return say(to, 0, "{}"), to->len = (size_t)-1 / 2 + 7, 0;
  if (IS("status")) return say(to, 99, "what is this");
  if (IS("no words")) return ARRAKIS_FAILED;
  if (IS("panicked")) return say(to, ARRAKIS_PANICKED, "it is unwell");
  if (IS("no tensor")) return say(to, 0, STACK "\"a\"]}],\"tensor\":\"t\"}}}");
  if (IS("other dtype") || IS("other size") || IS("null tensor") || IS("other axes") || IS("dtype number")) {
    uint32_t status = attach(call, IS("other dtype") ? 6 : IS("dtype number") ? 999 : 7, IS("other size") ? 3 : 2, IS("null tensor"), to);
    return status ? status : say(to, 0, STACK "\"a\"]}],\"tensor\":\"t\"}}}");
  }
  if (IS("numbers")) {
    static char json[512];
    double uniforms[2], normals[2];
    uint32_t status = call->host->uniforms(call->context, str("name"), uniforms, 2, to);
    if (!status) status = call->host->normals(call->context, str("name"), normals, 2, to);
    if (status) return status;
    snprintf(json, sizeof json, "{\"a\":{\"number\":%.17g},\"b\":{\"number\":%.17g},\"c\":{\"number\":%.17g},\"d\":{\"number\":%.17g}}",
             uniforms[0], uniforms[1], normals[0], normals[1]);
    return say(to, 0, json);
  }
  if (IS("null numbers")) return call->host->uniforms(call->context, str("name"), NULL, 2, to);
  if (IS("null context")) return call->host->progress(NULL, 1, 2, to);
  if (IS("null model")) return call->host->digest(NULL, to);
  if (IS("no size")) {
    ArrakisDims dims = {0};
    return call->host->dims(call->model, &dims, to);
  }
  if (IS("null pass")) return call->host->forward(call->model, NULL, NULL, to);
  if (IS("empty pass")) {
    ArrakisPass pass = {.size = sizeof pass};
    ArrakisOutput output = {.size = sizeof output};
    return call->host->forward(call->model, &pass, &output, to);
  }
  if (IS("null weight")) {
    ArrakisTensor *value = NULL;
    return call->host->weight(call->model, (ArrakisWeightName){{NULL, 5}, 0}, &value, to);
  }
  if (IS("scattered")) {
    ArrakisTensor *value = NULL;
    const void *data;
    uint32_t status = call->host->weight(call->model, (ArrakisWeightName){str("attn.W_Q"), 0}, &value, to);
    if (!status) status = call->host->tensor_data(value, &data, to);
    call->host->tensor_free(value);
    return status;
  }
  if (IS("huge tensor")) {
    double number = 1;
    int64_t sizes[2] = {INT64_MAX, INT64_MAX};
    ArrakisTensor *tensor = NULL;
    return call->host->tensor_new(&number, 7, sizes, 2, &tensor, to);
  }
  if (IS("silent hook")) {
    int64_t ids[2] = {1, 2}, sizes[2] = {1, 2};
    ArrakisTensor *tokens = NULL;
    ArrakisHooks hooks = {.size = sizeof hooks, .state = (void *)call->host, .watches = watches, .visit = keeps_value};
    ArrakisPass pass = {.size = sizeof pass, .hooks = &hooks};
    ArrakisOutput output = {.size = sizeof output};
    uint32_t status = call->host->tensor_new(ids, 4, sizes, 2, &tokens, to);
    pass.tokens = tokens;
    if (!status) status = call->host->forward(call->model, &pass, &output, to);
    call->host->tensor_free(tokens);
    return status;
  }
  return say(to, ARRAKIS_FAILED, "it knows no such lie");
}

/* A tool and a table as a later minor version may have them. */
typedef struct {
  ArrakisTool tool;
  void *later[3];
} GrownTool;

typedef struct {
  ArrakisPlugin plugin;
  void *later[5];
} GrownPlugin;

const ArrakisPlugin *arrakis_plugin_liar(const ArrakisHost *host) {
  static GrownTool tools[1];
  static GrownPlugin grown;
  static ArrakisPlugin zero;
  if (LIE == REFUSES || !host) return NULL;
  if (LIE == NO_SIZE) return &zero;
  ArrakisStr name = str(LIE == OTHER_NAME ? "liar.other" : NAME);
  if (LIE == NULL_NAME) name.ptr = NULL;
  if (LIE == LONG_NAME) name.len = (size_t)-1;
  if (LIE == BAD_UTF8) name = str("liar.\xff");
  tools[0].tool = (ArrakisTool){.name = name, .owner = str(OWNER), .schema = schema, .ask = ask};
  if (LIE == NO_ASK) tools[0].tool.ask = NULL;
  if (LIE == NO_SCHEMA) tools[0].tool.schema = NULL;
  grown.plugin = (ArrakisPlugin){
      .size = LIE == GROWN ? sizeof grown : LIE == HUGE_SIZE ? (size_t)-1 : sizeof grown.plugin,
      .major = LIE == OTHER_MAJOR ? 2 : ARRAKIS_MAJOR,
      .minor = LIE == GROWN ? 7 : ARRAKIS_MINOR,
      .tools = LIE == NULL_TOOLS ? NULL : &tools[0].tool,
      .tool_count = LIE == MANY_TOOLS ? (size_t)-1 : 1,
      .tool_stride = LIE == SMALL_STRIDE ? 8 : LIE == ODD_STRIDE ? sizeof tools[0] + 1 : sizeof tools[0],
  };
  return &grown.plugin;
}
