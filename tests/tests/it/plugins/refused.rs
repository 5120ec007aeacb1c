//! What is no plugin, or none for this program, is refused with a reason, and the session goes on.

use std::fs;
use std::path::Path;

use arrakis_bench::{Inspection, Plugin, load_plugin, plugins};
use arrakis_core::plugin::Handles;
use arrakis_core::{Answer, Context, Part, tool};
use serde_json::json;
use tch::Kind;

use super::compiled::Compiled;
use super::{assert_at_rest, library, loaded, opened};
use crate::families;
use crate::fixtures::root;

/// Why a file does not load; a tool that is linked answers as before.
fn refused(path: &Path) -> String {
    let why = match Plugin::open(path) {
        Ok(plugin) => panic!("{} was loaded: {plugin:?}", path.display()),
        Err(error) => error.to_string(),
    };
    assert!(tool("logit_lens.lens").is_ok());
    assert!(why.contains(&path.display().to_string()), "{why}");
    why
}

#[test]
fn files_that_are_no_plugins_say_what_they_are() {
    let Some(folder) = Compiled::new() else { return };
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(folder.residual_norms()).unwrap();
    let changed = |name: &str, place: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[place] = byte;
        file(name, &bytes)
    };
    let other_machine = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    let libtorch = arrakis_core::device::libtorch_folder().unwrap().join("libc10.so");
    let cases = [
        (folder.path().join("absent.so"), "cannot read"),
        (folder.path().to_owned(), "it is no file"),
        ("/dev/zero".into(), "it is no file"),
        (file("empty.so", b""), "the file is empty"),
        (file("text.so", b"#!/bin/sh\necho hello\n"), "no ELF file"),
        (file("magic.so", b"\x7fELF"), "no 64-bit library"),
        (file("header.so", &whole[..40]), "header is cut off"),
        (changed("class.so", 4, 1), "no 64-bit library"),
        (changed("endian.so", 5, 2), "another machine"),
        (changed("machine.so", 18, other_machine), "another machine"),
        (changed("object.so", 16, 1), "no shared library"),
        (libtorch, "no plugin of arrakis: it has no stamp"),
        (std::env::current_exe().unwrap(), "it is"),
    ];
    for (path, words) in cases {
        let why = refused(&path);
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let Some(folder) = Compiled::new() else { return };
    let cut = folder.path().join("cut.so");
    for whole in [folder.residual_norms(), library("head-entropy")] {
        let whole = fs::read(whole).unwrap();
        // The big one is read in a few places only: every part of it that can be cut is in the small one too.
        let cuts = if whole.len() < 1 << 20 { 200 } else { 10 };
        for step in 0..cuts {
            fs::write(&cut, &whole[..whole.len() * step / cuts]).unwrap();
            refused(&cut);
        }
        fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
        refused(&cut);
    }
}

#[test]
fn bytes_changed_anywhere_in_the_tables_are_no_panic() {
    let Some(folder) = Compiled::new() else { return };
    let whole = fs::read(folder.residual_norms()).unwrap();
    let changed = folder.path().join("changed.so");
    let sections = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    for place in (0..512).chain(sections..whole.len()) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xA5;
        fs::write(&changed, &bytes).unwrap();
        // It may still be a plugin as far as can be seen; it is looked at and not loaded.
        let _ = Inspection::of(&changed).unwrap();
    }
}

#[test]
fn stamps_and_tables_that_lie_are_refused() {
    let Some(folder) = Compiled::new() else { return };
    let cases = [
        ("OTHER_ABI", "built for plugin ABI 2.0, and this program has 1.1"),
        ("OTHER_LIBTORCH", "built for LibTorch 2.10.0, and this program has 2.11.0"),
        ("OTHER_ENTRY", "`arrakis_plugin_lair` that its stamp names is not there"),
        ("BROKEN_STAMP", "stamp cannot be read"),
        ("NO_STAMP", "it has no stamp"),
        ("TWO_STAMPS", "two plugins in one"),
        ("TOOL_TWICE", "the tool `liar.tool` twice"),
        ("NO_TOOLS", "it has no tools"),
        ("MISSING_SYMBOL", "liar_is_not_defined_anywhere"),
        ("REFUSES", "it hands nothing over"),
        ("NO_SIZE", "says it has 0 bytes"),
        ("HUGE_SIZE", "says it has 18446744073709551615 bytes"),
        ("OTHER_MAJOR", "its table is of ABI 2"),
        ("NULL_TOOLS", "the pointer is null"),
        ("MANY_TOOLS", "its table has 18446744073709551615 tools and its stamp names 1"),
        ("SMALL_STRIDE", "8 bytes apart"),
        ("ODD_STRIDE", "bytes apart"),
        ("NULL_NAME", "the pointer is null"),
        ("LONG_NAME", "18446744073709551615 items"),
        ("BAD_UTF8", "not UTF-8"),
        ("NO_ASK", "no such function"),
        ("NO_SCHEMA", "no such function"),
        ("BAD_SCHEMA", "schema of `liar.tool`"),
        ("NO_OBJECT", "no JSON object"),
        ("FAILING_SCHEMA", "the schema is lost"),
        ("OTHER_NAME", "stamp names `liar.tool` of `liar 1.0.0` and its table `liar.other` of `liar 1.0.0`"),
    ];
    for (lie, words) in cases {
        let why = refused(&folder.liar(lie));
        assert!(why.contains(words), "{lie}: {why}");
    }
    let grown = Plugin::open(folder.liar("GROWN")).unwrap();
    assert_eq!(grown.tools()[0].doc(), "Lies.");
}

#[test]
fn a_tool_that_lies_is_an_error() {
    let Some(folder) = Compiled::new() else { return };
    let honest = Plugin::open(folder.liar("HONEST")).unwrap().tools()[0];
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let cx = Context::new(&model);
    let ask = |lie: &str| honest.ask(json!({ "lie": lie }), &cx);
    let before = Handles::here();
    assert_eq!(ask("none").unwrap().parts().count(), 1);
    assert_eq!(honest.complete(json!({ "lie": "none" })).unwrap(), json!({ "lie": "none", "more": 3 }));
    let mut stream = cx.stream("name");
    let uniforms = [stream.uniform(), stream.uniform()];
    stream = cx.stream("name");
    let numbers = [uniforms, [stream.normal(), stream.normal()]].concat();
    let told = ask("numbers").unwrap();
    for ((name, part), number) in told.parts().zip(numbers) {
        assert!(matches!(part, Part::Number(told) if *told == number), "{name}: {part:?}");
    }
    let cases = [
        ("no json", "answer of `liar.tool`"),
        ("no object", "answer of `liar.tool`"),
        ("nothing", "answer of `liar.tool`"),
        ("no shape", "`cube` is no shape"),
        ("wrong count", "wants 1 and has 3"),
        ("null bytes", "the pointer is null"),
        ("long bytes", "items"),
        ("status", "the status 99"),
        ("no words", "without saying why"),
        ("panicked", "`liar.tool` panicked: it is unwell"),
        ("parameters", "`liar.tool`: {\"lie\":\"parameters\"}"),
        ("no tensor", "tensor `t`: the answer names it and it is not there"),
        ("other dtype", "said to be Float [2], and is Double [2]"),
        ("other size", "said to be Double [3], and is Double [2]"),
        ("dtype number", "there is no dtype 999"),
        ("null tensor", "there is no tensor"),
        ("other axes", "wants [2] and has [1]"),
        ("null numbers", "the pointer is null"),
        ("null context", "the pointer is null"),
        ("null model", "the pointer is null"),
        ("no size", "says it has 0 bytes"),
        ("null pass", "the pointer is null"),
        ("empty pass", "from tokens or from a residual stream"),
        ("null weight", "the pointer is null"),
        ("scattered", "does not lie row by row on the CPU; take a `tensor_copy`"),
        ("huge tensor", "are no sizes"),
        ("silent hook", "no value that flows on"),
        ("unknown", "knows no such lie"),
    ];
    for (lie, words) in cases {
        let why = ask(lie).unwrap_err().to_string();
        assert!(why.contains(words), "{lie}: {why}");
    }
    assert_eq!(ask("none").unwrap().parts().count(), 1);
    // This plugin counts nothing, and frees through the host what it does not give back.
    let after = Handles::here();
    assert!(after.given > before.given);
    assert_eq!(after.given - before.given, after.taken - before.taken, "handles made and freed");
}

#[test]
fn a_tool_that_panics_is_an_error_with_its_words() {
    let wrong = loaded("unruly-plugin", "unruly.wrong");
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let cx = Context::new(&model);
    let ask = |how: &str| wrong.ask(json!({ "how": how }), &cx);
    let plugin = opened("unruly-plugin");
    let before = (Handles::here(), plugin.handles().unwrap());
    let cases = [
        ("run", "`unruly.wrong` panicked: the tool is unwell (tests/plugins/unruly/src/lib.rs:"),
        ("thing", "panicked: it did not say why"),
        ("bomb", "panicked: it did not say why"),
        ("hook", "panicked: a hook is unwell (tests/plugins/unruly"),
        ("watch", "panicked: nobody shall look"),
        ("passed", "panicked: startled by blocks.0.ln1.hook_normalized"),
        ("swallowed", "panicked: a hook is unwell"),
        ("failing", "hook: it would not"),
        ("shape", "the edit at `blocks.0.hook_resid_post` turned"),
        ("metric", "panicked: the metric is unwell"),
        ("drop", "panicked: a bomb went off"),
        (
            "point",
            "`blocks.0.hook_resid_pots` matches no hook point of this model; the nearest is `blocks.0.hook_resid_post`",
        ),
        ("torch", "The size of tensor a (2) must match the size of tensor b (3)"),
        ("stack", "`stack` wants [1] and has [3]"),
        ("nonsense", "is `\"nonsense\"` where"),
    ];
    for (how, words) in cases {
        let why = ask(how).unwrap_err().to_string();
        assert!(why.contains(words), "{how}: {why}");
        assert!(!why.contains("Exception raised"), "{how}: {why}");
    }
    assert_at_rest(before.0, before.1, plugin);
    let empty = loaded("unruly-plugin", "unruly.empty");
    assert_eq!(empty.ask(json!(null), &cx).unwrap().parts().count(), 0);
}

#[test]
fn a_name_that_is_taken_names_both_owners_and_adds_nothing() {
    let before = arrakis_core::tools().len();
    let why = load_plugin(library("head-entropy")).unwrap_err().to_string();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        why,
        format!(
            "tool `contrib.head_entropy` of `head-entropy {version}` is there already, from `head-entropy {version}`; load one of \
             the two"
        )
    );
    let why = load_plugin(library("builtin-plugin")).unwrap_err().to_string();
    assert!(why.contains("is there already, from `arrakis-tools"), "{why}");
    assert_eq!(plugins().iter().filter(|plugin| plugin.name().starts_with("head-entropy")).count(), 0);
    assert!(arrakis_core::tools().len() >= before);
    let names: Vec<&str> = arrakis_core::tools().iter().map(|tool| tool.name()).collect();
    assert_eq!(names.iter().filter(|name| **name == "contrib.head_entropy").count(), 1);
}

#[test]
fn a_loaded_library_is_known_again_and_a_changed_one_refused() {
    let Some(folder) = Compiled::new() else { return };
    let path = folder.library("tests/plugins/liar.c", "known.so", &["-DNAME=\"liar.known\"".into()]);
    // Opened and not registered: the key of every run in this process would change.
    let first = Plugin::open(&path).unwrap();
    assert!(std::ptr::eq(first, Plugin::open(&path).unwrap()));
    assert_eq!(first.digest(), blake3_of(&path));
    assert_eq!((first.tools()[0].name(), first.tools()[0].owner()), ("liar.known", "liar 1.0.0"));
    fs::remove_file(&path).unwrap();
    let path = folder.library("tests/plugins/liar.c", "known.so", &["-DNAME=\"liar.knows\"".into()]);
    assert!(refused(&path).contains("it has changed since it was loaded"));
    // What a library hands over may be refused; its code is loaded all the same.
    let path = folder.library("tests/plugins/liar.c", "late.so", &["-DLIE=REFUSES".into()]);
    assert!(refused(&path).contains("it hands nothing over"));
    assert!(refused(&path).contains("it hands nothing over"));
    fs::remove_file(&path).unwrap();
    let path = folder.library("tests/plugins/liar.c", "late.so", &["-DNAME=\"liar.late\"".into()]);
    assert!(refused(&path).contains("it has changed since it was loaded"));
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let answer: Answer = first.tools()[0].ask(json!({ "lie": "none" }), &Context::new(&model)).unwrap();
    assert_eq!(answer.parts().count(), 1);
}

fn blake3_of(path: &Path) -> String {
    Inspection::of(path).unwrap().digest
}
