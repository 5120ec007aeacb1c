//! The questions whose answers a kind of picture draws if nothing else is said.

use serde_json::{Map, Value, json};

const ASKED: [(&str, &str); 6] = [
    ("logit_lens", "logit_lens.lens"),
    ("patching", "patching.activation"),
    ("head_layer", "logit_attribution.direct"),
    ("waterfall", "residual_decomposition.top"),
    ("composition", "head_composition.scores"),
    ("feature", TOPS),
];
/// The texts where a feature is strongest.
const TOPS: &str = "feature_viz.top_tokens";
/// What is known of a neuron beside them.
const PORTRAIT: &str = "feature_viz.neuron";

/// Tools with their parameters, in the order to be asked; none where a kind has no question of its own and no tool is
/// named.
pub(super) fn of<'a>(
    kind: &str,
    tool: Option<&'a str>,
    parameters: Map<String, Value>,
) -> Vec<(&'a str, Map<String, Value>)> {
    let own = ASKED.iter().find(|(known, _)| *known == kind).map(|(_, tool)| *tool);
    match (tool, own) {
        (None, Some(_)) if kind == "feature" => of_neuron(parameters),
        (Some(tool), _) | (None, Some(tool)) => vec![(tool, parameters)],
        (None, None) => vec![],
    }
}

/// Both questions about a neuron, which the fields `layer` and `neuron` name; the first alone about another feature.
fn of_neuron(parameters: Map<String, Value>) -> Vec<(&'static str, Map<String, Value>)> {
    let mut portrait = parameters.clone();
    let mut texts = parameters;
    let (Some(layer), Some(neuron)) = (texts.remove("layer"), texts.remove("neuron")) else {
        return vec![(TOPS, portrait)];
    };
    texts.insert("feature".into(), json!({ "neuron": { "layer": layer, "neuron": neuron } }));
    texts.remove("bins");
    portrait.remove("top");
    portrait.remove("around");
    vec![(TOPS, texts), (PORTRAIT, portrait)]
}
