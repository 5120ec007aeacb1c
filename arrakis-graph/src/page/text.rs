//! A text coloured by numbers, token by token.

use serde_json::json;

use super::Widget;
use super::blobs::Blob;
use super::grid::{scale, spelled};
use crate::colour::Ramp;
use crate::coloured_text::ColouredText;
use crate::field::count;
use crate::{Result, label};

/// The widget of a coloured text.
pub(crate) fn widget(text: &ColouredText) -> Result<Widget> {
    for (_, values) in &text.rows {
        count(&text.title, "numbers for its tokens", text.tokens.len(), values.len())?;
    }
    let values: Vec<f64> = text.rows.iter().flat_map(|(_, values)| values).copied().collect();
    let ramp = Ramp::over(values.iter().copied(), text.scale());
    let names: Vec<String> = text.rows.iter().map(|(name, _)| label::spelled(name)).collect();
    let data = json!({
        "kind": "text",
        "value": label::spelled(&text.value),
        "rows": names,
        "tokens": spelled(&text.tokens),
        "scale": scale(text.scale()),
        "low": ramp.low,
        "high": ramp.high,
    });
    Ok(Widget { data, blobs: vec![Blob::float32(&values)] })
}
