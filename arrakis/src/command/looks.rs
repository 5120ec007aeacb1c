//! How pictures look, and where they are shown.

use arrakis_graph::Style;
use clap::Args;

use super::terminal::Way;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pictures")]
pub(crate) struct Looks {
    /// Light ink on a dark ground; a page of HTML is light or dark as its reader has it
    #[arg(long)]
    dark: bool,
    /// The greatest width of a picture, in pixels of 1/96 inch
    #[arg(long, default_value_t = Style::DEFAULT.width, value_name = "PIXELS")]
    width: f64,
    /// Pixels of a PNG to the inch
    #[arg(long, default_value_t = 96.0 * Style::DEFAULT.scale, value_name = "DPI")]
    dpi: f64,
    /// Show the picture in the terminal, as well as that can. A way that is named is taken whoever reads
    #[arg(
        long, value_enum, value_name = "WAY", num_args = 0..=1, require_equals = true, default_missing_value = "auto"
    )]
    pub(crate) show: Option<Way>,
}

impl Looks {
    pub(crate) fn style(&self) -> Style {
        Style { width: self.width, scale: self.dpi / 96.0, dark: self.dark }
    }
}
