//! The C header of the ABI is what the Rust definitions say.

use std::fs;

use arrakis_core::plugin::{abi, stamp};
use cbindgen::{Builder, Config, ConstantConfig, DocumentationStyle, ExportConfig, Language};

use super::compiled::Compiled;
use crate::fixtures::{root, say};

const HEAD: &str = "/* The C ABI of Arrakis' plugins. Made from arrakis-core/src/plugin/abi.rs; do not edit.
 *
 * Structs that begin with `size` only grow at their end: the reader takes as many bytes as both sides know, and what is
 * missing reads as zero. So do the items of an array that comes with its stride, the bytes from one item to the next as
 * its writer has them. A greater ARRAKIS_MINOR adds fields, a greater ARRAKIS_MAJOR breaks; what has neither size nor
 * stride never changes. Texts are UTF-8 without a final zero, and lent for the length of the call. Bytes that are returned
 * are freed by whoever made them.
 *
 * A tensor is an `at::Tensor *` of the LibTorch that both sides share. `const` tensors are lent for the length of the
 * call; the others change hands, and whoever holds one last frees it. docs/plugins.md tells the rest. */";

const TAIL: &str = r#"/* Whether a struct of the other side has a field: one of a later minor version need not be there. */
#define ARRAKIS_HAS(type, it, field) ((it)->size >= offsetof(type, field) + sizeof((it)->field))

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
#define ARRAKIS_TOOL(id, tool, owner) ARRAKIS_NOTE(id, 2, "{\"tool\":\"" tool "\",\"owner\":\"" owner "\"}")"#;

/// The constants of `abi`, by their names in C.
fn constants(source: &str) -> Vec<(String, String)> {
    let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'));
    names.map(|(name, _)| (name.to_owned(), format!("ARRAKIS_{name}"))).collect()
}

fn header() -> String {
    let source = root().join("arrakis-core/src/plugin/abi.rs");
    let versions = format!(
        "/* What this header belongs to. */\n#define ARRAKIS_LIBTORCH \"{}\"\n#define ARRAKIS_CORE \"{}\"",
        stamp::LIBTORCH,
        env!("CARGO_PKG_VERSION"),
    );
    let config = Config {
        language: Language::C,
        header: Some(HEAD.into()),
        after_includes: Some(format!("\n{versions}")),
        trailer: Some(TAIL.into()),
        include_guard: Some("ARRAKIS_PLUGIN_H".into()),
        cpp_compat: true,
        usize_is_size_t: true,
        line_length: 120,
        documentation_style: DocumentationStyle::C99,
        constant: ConstantConfig { allow_static_const: false, ..ConstantConfig::default() },
        export: ExportConfig {
            prefix: Some("Arrakis".into()),
            rename: constants(&fs::read_to_string(&source).unwrap()).into_iter().collect(),
            renaming_overrides_prefixing: true,
            include: ["Host", "Plugin", "Entry"].map(Into::into).to_vec(),
            ..ExportConfig::default()
        },
        ..Config::default()
    };
    let mut text = Vec::new();
    Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_c_header_is_what_the_rust_definitions_say() {
    let (file, header) = (root().join("arrakis-core/include/arrakis_plugin.h"), header());
    if std::env::var_os("ARRAKIS_RENEW").is_some() {
        fs::write(&file, &header).unwrap();
    }
    let same = fs::read_to_string(&file).unwrap_or_default() == header;
    assert!(
        same,
        "{} is out of date; `ARRAKIS_RENEW=1 cargo test -p arrakis-tests plugins::header` renews it",
        file.display()
    );
    assert!(header.contains(&format!("#define ARRAKIS_MAJOR {}", abi::MAJOR)));
}

#[test]
fn c_and_cpp_may_read_what_they_are_lent_and_not_write_to_it() {
    let Some(folder) = Compiled::new() else { return };
    let source = "
        #include <arrakis_plugin.h>
        uint32_t look(const ArrakisHost *host, const ArrakisTensor *tensor, ArrakisBytes *why) {
          QUALIFIER void *data;
          return host->tensor_data(tensor, &data, why);
        }";
    for language in ["c", "c++"] {
        let told = ["-DQUALIFIER=const", "-DQUALIFIER="].map(|option| folder.compiles(source, language, option));
        match told {
            [None, _] => say(&format!("skipped: there is no compiler of {language}")),
            [reads, writes] => assert_eq!((reads, writes), (Some(true), Some(false)), "{language}"),
        }
    }
}
