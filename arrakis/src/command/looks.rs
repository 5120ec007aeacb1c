//! How pictures look, and where they are shown.

use clap::Args;

use arrakis_graph::Style;

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
    /// Show the picture in the terminal: as it is in those that speak kitty's protocol, else its cells as half blocks
    #[arg(long)]
    pub(crate) show: bool,
}

impl Looks {
    pub(crate) fn style(&self) -> Style {
        Style { width: self.width, scale: self.dpi / 96.0, dark: self.dark }
    }
}
