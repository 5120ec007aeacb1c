//! Loaded tools answer as linked ones do, to the bit, and every tensor that crosses comes to rest.

use arrakis_core::plugin::Handles;
use arrakis_core::{Context, tool};
use serde_json::json;
use tch::Kind;

use super::{assert_same, loaded, opened};
use crate::families;
use crate::fixtures::root;

#[test]
fn a_tool_crate_answers_the_same_linked_and_loaded() {
    let model = families::loaded(&root().join("tests/golden/llama"), Kind::Double);
    let cx = Context::new(&model);
    let parameters = json!({ "prompt": [[3, 4, 5, 6], [7, 8]] });
    let (linked, loaded) = (tool("contrib.head_entropy").unwrap(), loaded("head-entropy", "contrib.head_entropy"));
    assert_eq!((linked.schema(), linked.owner()), (loaded.schema(), loaded.owner()));
    let answers = [linked.ask(parameters.clone(), &cx).unwrap(), loaded.ask(parameters, &cx).unwrap()];
    assert_same(&answers[0], &answers[1], "head entropy");
    let (here, there) = (Handles::here(), opened("head-entropy").handles().unwrap());
    assert!(here.given > 0);
    assert_eq!((here.given, here.taken), (there.taken, there.given));
}
