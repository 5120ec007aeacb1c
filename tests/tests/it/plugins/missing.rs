//! `plugin check` names what a library needs and this machine has not, without loading it.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_bench::{Inspection, Plugin};

use super::compiled::Compiled;
use super::library;

/// The options that link a plugin with one more source.
fn with(folder: &Compiled, name: &str, source: &str, options: &[&str]) -> Vec<String> {
    let path = folder.path().join(name);
    fs::write(&path, source).unwrap();
    let link = format!("-L{}", folder.path().display());
    [path.to_str().unwrap(), link.as_str()].iter().chain(options).map(|option| (*option).to_owned()).collect()
}

/// A plugin that is right but for what it needs.
fn plugin(folder: &Compiled, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let options = with(folder, &format!("{name}.c"), source, options);
    folder.library("tests/plugins/liar.c", &format!("{name}.so"), &options)
}

/// A library of one function, by the name that it is linked under.
fn other(folder: &Compiled, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let options = with(folder, &format!("{name}.c"), source, options);
    let empty = folder.path().join("empty.c");
    fs::write(&empty, "typedef int nothing;\n").unwrap();
    folder.library(empty.to_str().unwrap(), &format!("lib{name}.so"), &options)
}

fn missing(path: &Path) -> Vec<String> {
    Inspection::of(path).unwrap().missing().unwrap()
}

#[test]
fn plugins_of_this_build_and_of_libtorch_need_nothing_more() {
    let nothing: [String; 0] = [];
    for package in ["head-entropy", "builtin-plugin", "unruly-plugin"] {
        assert_eq!(missing(&library(package)), nothing, "{package}");
    }
    let Some(folder) = Compiled::new() else { return };
    assert_eq!(missing(&folder.residual_norms()), nothing);
    // Functions of this LibTorch, in C and in C++, and a symbol that need not be there.
    let source = "
        extern int aoti_torch_delete_tensor_object(void *);
        extern void zeros(void) __asm__(\"_ZN3c1019UndefinedTensorImpl10_singletonE\");
        extern int liar_may_be_absent(void) __attribute__((weak));
        void *uses[] = {(void *)aoti_torch_delete_tensor_object, (void *)zeros, (void *)liar_may_be_absent};";
    assert_eq!(missing(&plugin(&folder, "torch", source, &[])), nothing);
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    assert_eq!(missing(&text), nothing);
}

#[test]
fn symbols_that_nobody_has_are_named() {
    let Some(folder) = Compiled::new() else { return };
    let source = "
        extern void rolled(void) __asm__(\"_ZN2at14roll_backwardsERKNS_6TensorE\");
        void *uses[] = {(void *)rolled};";
    let one = plugin(&folder, "one", source, &[]);
    let words = "it needs a symbol that no library here has, LibTorch 2.11.0 among them: `_ZN2at14roll_backwardsERKNS_6TensorE`";
    assert_eq!(missing(&one), [words]);
    // The loader says the same, in its words, and the session goes on.
    assert!(Plugin::open(&one).unwrap_err().to_string().contains("_ZN2at14roll_backwards"));
    let absent = |at: usize| format!("extern int absent_{at}(void); int (*use_{at})(void) = absent_{at};");
    let many = (0..7).map(absent).collect::<Vec<_>>().join("\n");
    let words = missing(&plugin(&folder, "many", &many, &[]));
    assert!(words.len() == 1 && words[0].starts_with("it needs 7 symbols that no library here has"), "{words:?}");
    assert!(words[0].contains("`absent_") && words[0].ends_with(" and 2 more"), "{words:?}");
}

#[test]
fn libraries_that_are_not_found_are_named_and_found_ones_are_asked() {
    let Some(folder) = Compiled::new() else { return };
    let uses = "extern int deep(void); int shallow(void) { return deep(); }";
    let deep = other(&folder, "deep", "int deep(void) { return 3; }", &["-Wl,-soname,libdeep.so"]);
    let shallow = other(&folder, "shallow", uses, &["-Wl,-soname,libshallow.so", "-Wl,--no-as-needed", "-ldeep"]);
    let source = "extern int shallow(void); int (*use)(void) = shallow;";
    let bare = plugin(&folder, "bare", source, &["-lshallow"]);
    assert_eq!(missing(&bare), ["it needs the library `libshallow.so`, which is not found"]);
    assert!(Plugin::open(&bare).unwrap_err().to_string().contains("libshallow.so"));
    let beside = ["-Wl,-rpath,$ORIGIN", "-lshallow"];
    let found = plugin(&folder, "found", source, &beside);
    assert_eq!(missing(&found), ["`libshallow.so` needs the library `libdeep.so`, which is not found"]);
    // An older library, which lacks what is used of it.
    let deeper =
        plugin(&folder, "deeper", source, &["-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", "-lshallow", "-ldeep"]);
    fs::remove_file(&shallow).unwrap();
    let shallower = "int shallower(void) { return 1; }";
    other(&folder, "shallow", shallower, &["-Wl,-soname,libshallow.so"]);
    let words = missing(&deeper);
    assert!(words.len() == 1 && words[0].ends_with("among them: `shallow`"), "{words:?}");
    // A file of that name that is no library is passed over, as the loader does not.
    fs::write(&deep, "no library").unwrap();
    assert_eq!(missing(&deeper), ["it needs the library `libdeep.so`, which is not found"]);
    fs::remove_file(&deep).unwrap();
    other(&folder, "deep", "int deep(void) { return 3; }", &["-Wl,-soname,libdeep.so"]);
    other(&folder, "shallow", "int shallow(void) { return 1; }", &["-Wl,-soname,libshallow.so"]);
    assert!(missing(&deeper).is_empty());
    Plugin::open(&deeper).unwrap();
    // Now its libraries are loaded, and for it alone.
    assert!(missing(&deeper).is_empty());
}

#[test]
fn a_later_c_library_is_named() {
    let Some(folder) = Compiled::new() else { return };
    let script = folder.path().join("later.map");
    fs::write(&script, "GLIBC_2.99 { pow; };").unwrap();
    let script = format!("-Wl,--version-script={}", script.display());
    let later = "double pow(double a, double b) { return a + b; }";
    other(&folder, "later", later, &["-Wl,-soname,libm.so.6", "-fno-builtin", &script]);
    let source = "extern double pow(double, double); double (*use)(double, double) = pow;";
    let path = plugin(&folder, "later", source, &["-fno-builtin", "-llater"]);
    let words = "it needs `pow` of version `GLIBC_2.99` of `libm.so.6`, and the one of this machine has it not";
    assert_eq!(missing(&path), [words]);
    assert!(Plugin::open(&path).unwrap_err().to_string().contains("GLIBC_2.99"));
}
