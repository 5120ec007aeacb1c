//! Plugins of an earlier and of a later minor version of the ABI work with this host.

use arrakis_bench::Plugin;
use arrakis_core::plugin::Handles;
use arrakis_core::{Answer, Context, Model, Part};
use arrakis_leviathan::Lags;
use serde_json::json;
use tch::Kind;

use super::compiled::Compiled;
use crate::fixtures::{say, shared};
use crate::{families, leviathan};

fn number(answer: &Answer, part: &str) -> f64 {
    let Some(Part::Number(number)) = answer.get(part) else { panic!("`{part}` of {answer:?}") };
    *number
}

#[test]
fn an_older_and_a_newer_plugin_see_what_both_sides_know() {
    let Some(folder) = Compiled::new() else { return };
    let probe = |header: &str, name: &str, options: &[String]| {
        let library = folder.library_for(header, "tests/plugins/probe.c", name, options);
        Plugin::open(library).unwrap()
    };
    let older = probe("tests/plugins/abi-1.0", "older.so", &[]);
    let now = probe("arrakis-core/include", "now.so", &[]);
    let later = probe("arrakis-core/include", "later.so", &["-DLATER".into()]);
    assert_eq!([older, now, later].map(|plugin| plugin.stamp().abi.as_str()), ["1.0", "1.1", "1.9"]);

    let model = leviathan::model(&leviathan::config(leviathan::correlation(3, Lags::Diagonal)), 3, Kind::Double);
    let (before, entry) = (Handles::here(), now.tools()[0]);
    let [older, now, later] = [older, now, later].map(|plugin| {
        let answer = plugin.tools()[0].ask(json!({}), &Context::new(&model)).unwrap();
        assert_eq!((number(&answer, "layers"), number(&answer, "digest")), (2.0, 0.0));
        assert_eq!(number(&answer, "points"), model.points().len() as f64);
        assert_eq!(number(&answer, "weights"), model.weights().len() as f64);
        let inside = model.points().iter().filter(|point| point.layer == Some(1)).count();
        assert_eq!(number(&answer, "visits"), inside as f64 + 1.0, "those of block 1, and the lags of block 0");
        // A diagonal of three lags is shown as the matrix that it is.
        assert_eq!((number(&answer, "lag_entries"), number(&answer, "named_axes")), (2.0 * 9.0, 2.0 * 2.0));
        answer
    });
    // What came with 1.1 a plugin of 1.0 does not see; of a later one, the rest reads as zero.
    for (answer, knows) in [(older, 0.0), (now, 1.0), (later, 1.0)] {
        assert_eq!((number(&answer, "lag_axes"), number(&answer, "lag")), (4.0 * knows, 3.0 * knows));
        assert_eq!(number(&answer, "passed") > 0.0, knows > 0.0);
    }
    if let Some(shared) = shared() {
        let told = families::loaded(&shared.join("models/stories260K"), Kind::Float);
        let answer = entry.ask(json!({}), &Context::new(&told)).unwrap();
        assert_eq!(number(&answer, "digest"), 64.0, "of the tokenizer, in hexadecimal");
    } else {
        say("skipped: a model with a tokenizer is among the shared fixtures");
    }
    let after = Handles::here();
    assert_eq!(after.given - before.given, after.taken - before.taken, "handles made and freed");
}
