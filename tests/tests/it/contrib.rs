//! A tool crate written as an outsider would is found by name and answers like any other.

use arrakis_core::{Answer, Context, Part, Tool, tool};
use head_entropy::HeadEntropy;
use tch::Kind;

use crate::families::loaded;
use crate::fixtures;

#[test]
fn a_linked_tool_crate_is_found_by_name_and_its_answer_is_in_bounds() {
    let model = loaded(&fixtures::root().join("tests/golden/llama"), Kind::Double);
    let cx = Context::new(&model);
    let entry = tool(HeadEntropy::NAME).unwrap();
    assert!(entry.owner().starts_with("head-entropy"));
    assert!(entry.doc().starts_with("Measures how spread"));
    let asked = entry.ask(serde_json::json!({ "prompt": [[3, 4, 5, 6], [7, 8]] }), &cx).unwrap();
    let typed = HeadEntropy { prompt: arrakis_core::Prompt::Rows(vec![vec![3, 4, 5, 6], vec![7, 8]]) };
    let typed: Answer = typed.run(&cx).unwrap().into();
    let (Some(Part::Grid(asked)), Some(Part::Grid(typed))) = (asked.get("entropy"), typed.get("entropy")) else {
        panic!("the answer is a grid");
    };
    assert_eq!(asked, typed);
    assert_eq!((asked.rows.len(), asked.columns.len()), (2, 4));
    assert!(asked.values.iter().all(|share| (0.0..=1.0 + 1e-12).contains(share)), "{:?}", asked.values);
    assert!(entry.ask(serde_json::json!({ "prompt": "text" }), &cx).unwrap_err().to_string().contains("tokenizer"));
}
