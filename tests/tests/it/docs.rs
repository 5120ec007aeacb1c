//! `docs/tools.md` and what belongs to it: the page is current, every tool has an example and a picture.

use std::fs;

use arrakis::examples::{example, examples};
use arrakis::graph::kinds;
use arrakis_bench::{Bench, Study};

use crate::fixtures::root;

/// The tools that the command has; a test links tools of others too.
fn own() -> Vec<&'static arrakis_core::ToolEntry> {
    arrakis_core::tools().into_iter().filter(|tool| tool.owner().starts_with("arrakis-tools ")).collect()
}

#[test]
fn the_page_of_tools_is_current() {
    let page = fs::read_to_string(root().join("docs/tools.md")).unwrap_or_default();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(arrakis::command::run(["arrakis", "tools", "--markdown"], &mut out, &mut err), 0);
    let text = String::from_utf8(out).unwrap();
    let same = page == text;
    assert!(same, "docs/tools.md is out of date; `cargo run -p arrakis -- tools --markdown > docs/tools.md` renews it");
}

#[test]
fn every_tool_has_an_example_that_it_takes() {
    for tool in own() {
        let name = tool.name();
        let Some(example) = example(name).unwrap() else { panic!("`{name}` has no example in docs/examples.json") };
        Bench::complete(name, example.parameters.into()).unwrap_or_else(|error| panic!("`{name}`: {error}"));
    }
    for (name, _) in examples().unwrap() {
        assert!(own().iter().any(|tool| tool.name() == name), "`{name}` has an example and is no tool");
    }
}

#[test]
fn every_tool_has_a_picture_and_the_page_shows_it() {
    let page = fs::read_to_string(root().join("docs/tools.md")).unwrap();
    for tool in own() {
        let file = format!("pictures/{}.svg", tool.name());
        let renew = format!("`cargo run -p arrakis --example pictures -- {}` draws it", tool.name());
        let picture = fs::metadata(root().join("docs").join(&file)).unwrap_or_else(|_| panic!("no {file}; {renew}"));
        assert!(picture.len() < 150_000, "{file} has {} bytes", picture.len());
        assert!(page.contains(&format!("]({file})")), "{file}");
    }
}

#[test]
fn the_sweep_on_the_page_of_the_log_is_one() {
    let page = fs::read_to_string(root().join("docs/log.md")).unwrap();
    let (_, rest) = page.split_once("```json\n").unwrap();
    let study: Study = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    study.check().unwrap();
    assert_eq!(study.cells().unwrap().len(), 4);
    let other: Study = serde_json::from_str(r#"{ "tool": "logit_lens.lens", "seeds": [1] }"#).unwrap();
    assert_eq!(other.name, "logit_lens.lens", "the first guess is right too");
}

#[test]
fn the_gallery_shows_every_kind_as_it_is_described() {
    let page = fs::read_to_string(root().join("docs/gallery.md")).unwrap();
    for kind in kinds() {
        let name = kind.name();
        let section = format!("\n## {name}\n\n{}.\n\n![{name}](gallery/{name}.svg)\n", kind.about());
        assert!(page.contains(&section), "`{name}`: `cargo xtask gallery` draws it");
        let picture = fs::metadata(root().join(format!("docs/gallery/{name}.svg"))).unwrap();
        assert!(picture.len() < 150_000, "{name} has {} bytes", picture.len());
    }
    assert_eq!(page.matches("\n## ").count(), kinds().len());
}
